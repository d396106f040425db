{{/* Variables and files of the gateway's container. */}}

{{/* What the chart makes up for trying out, as a map; what the cluster has already, stays. Empty if nothing is asked for. It is made
     once for all templates, or each would have another. */}}
{{- define "holdfast.generated" -}}
{{- if not (hasKey .Values "generated") }}{{ $_ := set .Values "generated" (include "holdfast.generate" . | fromYaml) }}{{ end -}}
{{- toYaml .Values.generated -}}
{{- end }}
{{- define "holdfast.generate" -}}
{{- $name := printf "%s-generated" (include "holdfast.fullname" .) -}}
{{- $found := lookup "v1" "Secret" (include "holdfast.namespace" .) $name -}}
{{- $kept := dict -}}
{{- range $key, $value := default (dict) (default (dict) $found).data }}{{ $_ := set $kept $key (b64dec $value) }}{{ end -}}
{{- $made := dict -}}
{{- if (.Values.auth).generateToken -}}
{{- $token := get $kept "token" | default (printf "hf_%s" (randAlphaNum 43)) -}}
{{- $_ := set $made "token" $token -}}
{{- $_ := set $made "token-sha256" (sha256sum $token) -}}
{{- end -}}
{{- $own := not (.Values.embedded).existingSecret -}}
{{- if and $own ((.Values.embedded).redis).enabled -}}
{{- $_ := set $made "redis-password" (get $kept "redis-password" | default (randAlphaNum 32)) -}}
{{- end -}}
{{- if and $own ((.Values.embedded).nats).enabled -}}
{{- $_ := set $made "nats-password" (get $kept "nats-password" | default (randAlphaNum 32)) -}}
{{- $_ := set $made "cluster-key" (get $kept "cluster-key" | default (randAlphaNum 64 | sha256sum)) -}}
{{- end -}}
{{- toYaml $made -}}
{{- end }}

{{/* The Secret with the passwords of the embedded servers. */}}
{{- define "holdfast.embeddedSecret" -}}
{{- default (printf "%s-generated" (include "holdfast.fullname" .)) (.Values.embedded).existingSecret -}}
{{- end }}

{{/* A variable from a Secret: (dict "name" … "secret" … "key" …). */}}
{{- define "holdfast.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
{{- end }}

{{- define "holdfast.environment" -}}
{{- $generated := printf "%s-generated" (include "holdfast.fullname" .) -}}
{{- $embedded := include "holdfast.embeddedSecret" . -}}
- name: HOLDFAST_CLUSTER_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if (.Values.auth).generateToken }}
{{ include "holdfast.fromSecret" (dict "name" "HOLDFAST_AUTH_TOKENS_TRYOUT_SHA256" "secret" $generated "key" "token-sha256") }}
{{- end }}
{{- if ((.Values.embedded).redis).enabled }}
{{ include "holdfast.fromSecret" (dict "name" "REDIS_PASSWORD" "secret" $embedded "key" "redis-password") }}
- name: HOLDFAST_STATE
  value: redis://:$(REDIS_PASSWORD)@{{ include "holdfast.fullname" . }}-redis:6379/0
{{- end }}
{{- if ((.Values.embedded).nats).enabled }}
{{ include "holdfast.fromSecret" (dict "name" "NATS_PASSWORD" "secret" $embedded "key" "nats-password") }}
- name: HOLDFAST_BUS
  value: nats://holdfast:$(NATS_PASSWORD)@{{ include "holdfast.fullname" . }}-nats:4222
{{ include "holdfast.fromSecret" (dict "name" "HOLDFAST_CLUSTER_KEYS_TRYOUT_SECRET" "secret" $embedded "key" "cluster-key") }}
{{- end }}
{{- $given := include "holdfast.given" . | fromYaml }}
{{- range $key, $from := $given.configSecrets }}
{{- $variable := include "holdfast.variable" $key }}
{{- if $from.format }}
{{- $raw := printf "SECRET_%s" (trimPrefix "HOLDFAST_" $variable) }}
{{ include "holdfast.fromSecret" (dict "name" $raw "secret" $from.secret "key" $from.key) }}
- name: {{ $variable }}
  value: {{ $from.format | replace "$(value)" (printf "$(%s)" $raw) | quote }}
{{- else }}
{{ include "holdfast.fromSecret" (dict "name" $variable "secret" $from.secret "key" $from.key) }}
{{- end }}
{{- end }}
{{- range $key, $from := $given.configFiles }}
- name: {{ include "holdfast.variable" $key }}
  value: {{ include "holdfast.filePath" $from | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The Secrets and ConfigMaps of configFiles, each once, as a map: source → {secret|configMap, keys}. */}}
{{- define "holdfast.files" -}}
{{- $sources := dict -}}
{{- range $_, $from := (include "holdfast.given" . | fromYaml).configFiles -}}
{{- $source := include "holdfast.fileSource" $from -}}
{{- $keys := get $sources $source | default (dict "keys" (list)) | dig "keys" (list) -}}
{{- $_ := set $sources $source (merge (dict "keys" (append $keys $from.key | uniq | sortAlpha)) $from) -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end }}

{{- define "holdfast.volumeName" -}}
files-{{ . | sha256sum | trunc 10 }}
{{- end }}

{{- define "holdfast.volumes" -}}
- name: config
  configMap:
    name: {{ include "holdfast.fullname" . | quote }}
{{- range $source, $from := include "holdfast.files" . | fromYaml }}
- name: {{ include "holdfast.volumeName" $source }}
  {{- if $from.secret }}
  secret:
    secretName: {{ $from.secret | quote }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ $from.configMap | quote }}
  {{- end }}
    items:
      {{- range $from.keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "holdfast.volumeMounts" -}}
- name: config
  mountPath: /etc/holdfast/config
  readOnly: true
{{- range $source, $_ := include "holdfast.files" . | fromYaml }}
- name: {{ include "holdfast.volumeName" $source }}
  mountPath: {{ printf "/etc/holdfast/files/%s" $source | quote }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
