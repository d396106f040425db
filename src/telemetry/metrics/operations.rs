//! The metrics of the conventions of OpenTelemetry for MCP, as Prometheus names them: the gateway is a server to
//! its clients and a client of its servers.

use prometheus::HistogramVec;

use super::super::buckets::OPERATION;
use super::super::catalogue::{Catalogue, Histograms, SERVER, Table, Values, closed, tool};
use super::super::labels::{ErrorType, Method};
use super::Metrics;

#[derive(Debug)]
pub(super) struct Operations {
    served: HistogramVec,
    /// Those that call no tool.
    served_others: Histograms<(Method, ErrorType)>,
    asked: HistogramVec,
}

/// What is said of one tool's calls, or of what calls none.
pub(super) type OfTool = Histograms<ErrorType>;

fn labels() -> Vec<(&'static str, Values)> {
    let rest = closed::<(Method, ErrorType)>(&["mcp_method_name", "error_type"]);
    [tool("gen_ai_tool_name")].into_iter().chain(rest).collect()
}

impl Operations {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("OpenTelemetry's names");
        let served = catalogue.histogram_vec(
            "mcp_server_operation_duration_seconds",
            labels(),
            "Requests and notifications of clients, from their arrival to their answers: OpenTelemetry's \
             `mcp.server.operation.duration`. `error_type` is empty where there is no error, `gen_ai_tool_name` where \
             there is no tool.",
            OPERATION,
        );
        let asked = catalogue.histogram_vec(
            "mcp_client_operation_duration_seconds",
            [SERVER].into_iter().chain(labels()).collect(),
            "Requests and notifications to servers, from sending them to their answers: OpenTelemetry's \
             `mcp.client.operation.duration`.",
            OPERATION,
        );
        Self { served_others: Table::of_some(&served, &[""]), served, asked }
    }

    /// Of a tool towards clients, and towards its server.
    pub(super) fn of_tool(&self, server: &str, tool: &str) -> [OfTool; 2] {
        let method = Method::ToolsCall.label();
        [Table::of_some(&self.served, &[tool, method]), Table::of_some(&self.asked, &[server, tool, method])]
    }

    /// Of what is asked of a server that calls no tool.
    pub(super) fn of_server(&self, server: &str) -> Histograms<(Method, ErrorType)> {
        Table::of_some(&self.asked, &[server, ""])
    }
}

impl Metrics {
    /// A client has its answer.
    pub(super) fn served(&self, method: Method, error: ErrorType, seconds: f64) {
        self.inner.operations.served_others.of((method, error)).observe(seconds);
    }
}
