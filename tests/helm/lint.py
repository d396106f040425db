"""For `make lint`: nothing here renders for its own sake."""

import unittest

import helm_python
import yaml

import chart
import files
import reference

RENEW = "out of date: make helm-renew"


class Chart(unittest.TestCase):
    maxDiff = None

    def test_helm_3_lints_every_example(self):
        for example in chart.EXAMPLES:
            with self.subTest(example):
                chart.helm3("lint", "--strict", chart.CHART, "-f", chart.values_file(example))

    def test_helm_4_lints_every_example(self):
        for example in chart.EXAMPLES:
            with self.subTest(example):
                report = helm_python.lint(chart.CHART, chart.values(example), strict=True, kube_version=f"v{chart.KUBERNETES}")
                worse = [each for each in report["messages"] if each["severity"] > 1]
                self.assertEqual((worse, report["errors"]), ([], []))

    def test_the_versions_are_those_of_the_application(self):
        about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
        self.assertEqual(about["appVersion"], reference.cargo_version(), "Chart.yaml's appVersion")

    def test_schema_and_values_name_the_same_keys(self):
        self.assertEqual(reference.schema_paths(), [])

    def test_the_schema_has_the_comments(self):
        self.assertEqual((chart.CHART / "values.schema.json").read_text(), reference.schema(), RENEW)

    def test_the_readme_is_made_from_the_values(self):
        self.assertEqual((chart.CHART / "README.md").read_text(), reference.readme(), RENEW)

    def test_rules_and_dashboards_are_those_of_deploy(self):
        self.assertEqual(files.present(), files.wanted(), RENEW)


if __name__ == "__main__":
    unittest.main()
