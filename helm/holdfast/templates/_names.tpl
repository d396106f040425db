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
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* name, namespace, labels and annotations of an object: (dict "root" $ "component" … "suffix" … "namespace" …
     "labels" … "annotations" …); all but root are optional. */}}
{{- define "holdfast.metadata" -}}
{{- $root := .root -}}
name: {{ include "holdfast.fullname" $root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ default (include "holdfast.namespace" $root) .namespace }}
labels:
  {{- include "holdfast.labels" . | nindent 2 }}
{{- $annotations := merge (dict) (default (dict) .annotations) $root.Values.commonAnnotations }}
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
{{- merge $own (default (dict) .labels) $root.Values.commonLabels | toYaml -}}
{{- end }}

{{/* (dict "root" $ "image" .Values.image): a digest wins over a tag, and that over the chart's appVersion. */}}
{{- define "holdfast.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end }}

{{- define "holdfast.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
