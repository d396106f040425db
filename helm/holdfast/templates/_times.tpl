{{/* How a pod ends, in seconds from the moment that it is told to (deletionTimestamp). With the defaults:

       0 ──── preStop 5 ────► SIGTERM ── notice 5 ──► streams leave, over handover 5 ── … ──► timeout 25 ──► margin 5 ──► SIGKILL
       └─ endpoints 10: new requests may still come, and are served ─┘                     30            35 = grace period

     - endpoints: termination.endpointsSeconds. Until everybody in front has heard that the pod ends, it must serve.
     - notice: config.drain.notice. After SIGTERM the node serves all of it for so long, and closes HTTP/1.1 connections
       behind each answer. Only with a shared state; otherwise nobody else could serve its sessions, and it is 0.
     - preStop: what notice does not cover of endpoints. A hook that sleeps, as the node knows nothing yet.
     - timeout: config.drain.timeout, from SIGTERM, which holds notice, handover and the end of running requests. After it
       the process needs about two seconds for its goodbyes, and up to two more for the last traces where they are exported
       (OTEL_*). So the margin is at least 5.
     - grace period: preStop + timeout + termination.marginSeconds. The kubelet counts the hook in. */}}

{{/* (dict "key" "drain.notice" "text" "1h30m") → milliseconds. The units are the application's. */}}
{{- define "holdfast.milliseconds" -}}
{{- $text := toString .text -}}
{{- if eq $text "0" -}}
0
{{- else -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h|d))+$" $text) -}}
{{- fail (printf "\n\nconfig.%s is %s, which is not a duration such as 250ms, 5s or 1h30m." .key $text) -}}
{{- end -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" $text -1 -}}
{{- $number := regexReplaceAll "^0+" (regexFind "^[0-9]+" .) "" | default "0" -}}
{{- $sum = add $sum (mul (int64 $number) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}
{{- end }}

{{/* (dict "root" $ "key" "timeout" "default" "25s" "spare" 999) → whole seconds, rounded up by the spare milliseconds. */}}
{{- define "holdfast.drainSeconds" -}}
{{- $given := dig "drain" .key "" (include "holdfast.given" .root | fromYaml).config | toString -}}
{{- $text := $given | default .default -}}
{{- $milliseconds := include "holdfast.milliseconds" (dict "key" (printf "drain.%s" .key) "text" $text) -}}
{{- div (add (int64 $milliseconds) .spare) 1000 -}}
{{- end }}

{{- define "holdfast.noticeSeconds" -}}
{{- if include "holdfast.shared" . -}}
{{- /* Rounded down, so that the hook makes up for the rest. */ -}}
{{- include "holdfast.drainSeconds" (dict "root" . "key" "notice" "default" "5s" "spare" 0) -}}
{{- else -}}
0
{{- end -}}
{{- end }}

{{- define "holdfast.preStopSeconds" -}}
{{- max 0 (sub (int64 .Values.termination.endpointsSeconds) (int64 (include "holdfast.noticeSeconds" .))) -}}
{{- end }}

{{- define "holdfast.graceSeconds" -}}
{{- $timeout := include "holdfast.drainSeconds" (dict "root" . "key" "timeout" "default" "25s" "spare" 999) | int64 -}}
{{- add (int64 (include "holdfast.preStopSeconds" .)) $timeout (int64 .Values.termination.marginSeconds) -}}
{{- end }}
