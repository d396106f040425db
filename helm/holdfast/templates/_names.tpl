{{/* Names, labels and images. */}}

{{/* 45 characters at most: a pod's name adds 17, and is a host name (63). */}}
{{- define "holdfast.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name }}{{ $full = .Release.Name }}{{ end -}}
{{- default $full .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{- define "holdfast.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{- define "holdfast.serviceAccountName" -}}
{{- $made := ternary (include "holdfast.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $made .Values.serviceAccount.name -}}
{{- end }}

{{/* What selects the objects of one component: (dict "root" $ "component" "gateway"). */}}
{{- define "holdfast.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* name, namespace, labels and annotations of an object: (dict "root" $ "component" … "suffix" … "namespace" …
     "labels" … "annotations" …); all but root are optional. */}}
{{- define "holdfast.metadata" -}}
{{- $root := .root -}}
name: {{ list (include "holdfast.fullname" $root) .suffix | compact | join "-" | quote }}
namespace: {{ default (include "holdfast.namespace" $root) .namespace | quote }}
labels:
  {{- include "holdfast.labels" . | nindent 2 }}
{{- $annotations := merge (dict) (default (dict) .annotations) (default (dict) $root.Values.commonAnnotations) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* All labels; "pod" true leaves out the chart's version, so that a new chart with the same pods replaces none. */}}
{{- define "holdfast.labels" -}}
{{- $root := .root -}}
{{- $own := include "holdfast.selectorLabels" (dict "root" $root "component" (default "gateway" .component)) | fromYaml -}}
{{- if not .pod }}{{ $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}{{ end -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "holdfast" -}}
{{- merge $own (default (dict) .labels) (default (dict) $root.Values.commonLabels) | toYaml -}}
{{- end }}

{{/* (dict "root" $ "image" .Values.image): a digest wins over a tag, and that over the chart's appVersion. */}}
{{- define "holdfast.image" -}}
{{- $registry := default .image.registry (.root.Values.global).imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end }}

{{/* Names of Secrets, or, as in other charts, maps with a name. */}}
{{- define "holdfast.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (default (list) (.Values.global).imagePullSecrets) (default (list) .Values.imagePullSecrets) -}}
{{- $secrets = append $secrets (kindIs "map" . | ternary . (dict "name" .)) -}}
{{- end -}}
{{- with $secrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
