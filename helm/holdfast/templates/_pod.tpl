{{/* The pod's template, the same for a Deployment and a StatefulSet. */}}

{{- define "holdfast.probe" -}}
httpGet:
  path: {{ .path }}
  port: admin
  {{- if eq (include "holdfast.adminScheme" .root) "https" }}
  scheme: HTTPS
  {{- end }}
{{ toYaml .times }}
{{- end }}

{{- define "holdfast.pod" -}}
metadata:
  annotations:
    # A changed configuration is a rollout.
    checksum/config: {{ include "holdfast.config" . | sha256sum | quote }}
    {{- with include "holdfast.generated" . | fromYaml }}
    checksum/generated: {{ toJson . | sha256sum | quote }}
    {{- end }}
    kubectl.kubernetes.io/default-container: holdfast
    {{- with merge (dict) (default (dict) .Values.podAnnotations) (default (dict) .Values.commonAnnotations) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "holdfast.labels" (dict "root" . "labels" .Values.podLabels "pod" true) | nindent 4 }}
spec:
  {{- with include "holdfast.imagePullSecrets" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  serviceAccountName: {{ include "holdfast.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
  # Variables that describe Services would only get in the way of those of the configuration.
  enableServiceLinks: false
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # preStop {{ include "holdfast.preStopSeconds" . }} s + drain.timeout + termination.marginSeconds
  terminationGracePeriodSeconds: {{ include "holdfast.graceSeconds" . }}
  {{- if or .Values.initContainers .Values.sidecars }}
  initContainers:
    {{- with .Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- range .Values.sidecars }}
    - {{- toYaml (merge (dict "restartPolicy" "Always") .) | nindent 6 }}
    {{- end }}
  {{- end }}
  containers:
    - name: holdfast
      image: {{ include "holdfast.image" (dict "root" . "image" .Values.image) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config=/etc/holdfast/config/holdfast.yaml
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "holdfast.environment" . | nindent 8 }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ include "holdfast.clientPort" . }}
        - name: admin
          containerPort: {{ include "holdfast.adminPort" . }}
      startupProbe:
        {{- include "holdfast.probe" (dict "root" . "path" "/livez" "times" .Values.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "holdfast.probe" (dict "root" . "path" "/livez" "times" .Values.livenessProbe) | nindent 8 }}
      readinessProbe:
        {{- include "holdfast.probe" (dict "root" . "path" "/readyz" "times" .Values.readinessProbe) | nindent 8 }}
      {{- with include "holdfast.preStopSeconds" . | int }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "holdfast.volumeMounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "holdfast.volumes" . | nindent 4 }}
  {{- if or (.Values.topologySpread).enabled .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- if (.Values.topologySpread).enabled }}
    {{- range .Values.topologySpread.topologyKeys }}
    - maxSkew: 1
      topologyKey: {{ . | quote }}
      whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "holdfast.selectorLabels" (dict "root" $ "component" "gateway") | nindent 10 }}
      # Each version by itself, or the old pods of a rollout would decide where new ones go.
      matchLabelKeys: [{{ ternary "pod-template-hash" "controller-revision-hash" (eq $.Values.kind "Deployment") }}]
    {{- end }}
    {{- end }}
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.extraPodSpec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
