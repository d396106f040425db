{{/* What the chart reads out of the configuration. It is never modelled anew: these look at a few keys of it, because
     ports, probes and times have to agree with them. */}}

{{/* The environment variable of a key: limits.sessions_max → HOLDFAST_LIMITS_SESSIONS_MAX. */}}
{{- define "holdfast.variable" -}}
HOLDFAST_{{ . | upper | replace "." "_" | replace "-" "_" }}
{{- end }}

{{/* The values config, configSecrets and configFiles, without the keys that an overlay took away with `null`. */}}
{{- define "holdfast.given" -}}
{{- $given := dict "config" .Values.config "configSecrets" .Values.configSecrets "configFiles" .Values.configFiles | deepCopy -}}
{{- include "holdfast.dropNulls" $given -}}
{{- toYaml (merge $given (dict "config" (dict) "configSecrets" (dict) "configFiles" (dict))) -}}
{{- end }}
{{- define "holdfast.dropNulls" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $map $key }}{{ else if kindIs "map" $value }}{{ include "holdfast.dropNulls" $value }}{{ end -}}
{{- end -}}
{{- end }}

{{/* What may stand at the top of the configuration; a test compares it with the reference. */}}
{{- define "holdfast.keys" -}}
admin audit auth bus cluster default_server drain http limits listen log metrics nats public_url redis requests servers sessions state streams telemetry upstream
{{- end }}

{{/* The configuration file as a map. */}}
{{- define "holdfast.config" -}}
{{- $config := (include "holdfast.given" . | fromYaml).config -}}
{{- if (.Values.auth).generateToken -}}
{{- $_ := set $config "auth" (merge (dict) (default (dict) $config.auth) (dict "mode" "tokens")) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Names of the variables of extraEnv, each between spaces. */}}
{{- define "holdfast.extraVariables" -}}
{{- " " }}{{ range .Values.extraEnv }}{{ .name }} {{ end }}
{{- end }}

{{/* Where `state` or `bus` comes from, or what it is: (dict "root" $ "key" "state" "embedded" (.Values.embedded).redis). */}}
{{- define "holdfast.backend" -}}
{{- $given := include "holdfast.given" .root | fromYaml -}}
{{- if (.embedded).enabled -}}
embedded
{{- else if hasKey $given.configSecrets .key -}}
secret
{{- else if contains (printf " %s " (include "holdfast.variable" .key)) (include "holdfast.extraVariables" .root) -}}
variable
{{- else -}}
{{- get $given.config .key | default "memory" -}}
{{- end -}}
{{- end }}

{{- define "holdfast.state" -}}
{{- include "holdfast.backend" (dict "root" . "key" "state" "embedded" (.Values.embedded).redis) -}}
{{- end }}
{{- define "holdfast.bus" -}}
{{- include "holdfast.backend" (dict "root" . "key" "bus" "embedded" (.Values.embedded).nats) -}}
{{- end }}

{{/* "true" if sessions live in a Redis, where other nodes find them. */}}
{{- define "holdfast.shared" -}}
{{- if not (has (include "holdfast.state" .) (list "memory" "none")) }}true{{ end -}}
{{- end }}

{{/* The most pods that there may be. */}}
{{- define "holdfast.replicasMax" -}}
{{- if (.Values.autoscaling).enabled }}{{ .Values.autoscaling.maxReplicas | int }}{{ else }}{{ .Values.replicaCount | int }}{{ end -}}
{{- end }}
{{- define "holdfast.replicasMin" -}}
{{- if (.Values.autoscaling).enabled }}{{ .Values.autoscaling.minReplicas | int }}{{ else }}{{ .Values.replicaCount | int }}{{ end -}}
{{- end }}

{{/* The port of an address such as 0.0.0.0:4444 or [::]:4444: (dict "key" "listen" "address" …). */}}
{{- define "holdfast.port" -}}
{{- $address := toString .address -}}
{{- if or (regexMatch "^(127\\.|localhost:|\\[::1\\]:)" $address) (not (regexMatch ":[1-9][0-9]*$" $address)) -}}
{{- fail (printf "\n\nconfig.%s is %s: no other pod, and no kubelet, can reach that. Wanted is an address with a port, such as 0.0.0.0:4444." .key $address) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $address -}}
{{- end }}
{{- define "holdfast.clientPort" -}}
{{- include "holdfast.port" (dict "key" "listen" "address" .Values.config.listen) -}}
{{- end }}
{{- define "holdfast.adminPort" -}}
{{- include "holdfast.port" (dict "key" "admin.listen" "address" .Values.config.admin.listen) -}}
{{- end }}

{{/* http or https, as spoken by a listener: (dict "root" $ "section" "admin"). */}}
{{- define "holdfast.scheme" -}}
{{- $file := printf "%s.tls.certificate_file" .section -}}
{{- $given := include "holdfast.given" .root | fromYaml -}}
{{- if or (hasKey $given.configFiles $file) (dig .section "tls" "certificate_file" "" $given.config) }}https{{ else }}http{{ end -}}
{{- end }}
{{- define "holdfast.clientScheme" -}}
{{- include "holdfast.scheme" (dict "root" . "section" "http") -}}
{{- end }}
{{- define "holdfast.adminScheme" -}}
{{- include "holdfast.scheme" (dict "root" . "section" "admin") -}}
{{- end }}

{{/* Where the file of a Secret or ConfigMap is: /etc/holdfast/files/secret-NAME/KEY. */}}
{{- define "holdfast.filePath" -}}
/etc/holdfast/files/{{ include "holdfast.fileSource" . }}/{{ .key }}
{{- end }}
{{- define "holdfast.fileSource" -}}
{{- if .secret }}secret-{{ .secret }}{{ else }}configmap-{{ .configMap }}{{ end -}}
{{- end }}
