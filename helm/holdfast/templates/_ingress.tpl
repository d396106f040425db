{{/* What keeps each controller from buffering streams, or from cutting them while they are silent. Bodies are bounded by
     config.http.body_bytes_max, with an answer that says so: controllers that have a bound of their own don't need it. An
     ALB takes at most 4000 and 3600. */}}
{{- define "holdfast.ingressAnnotations" -}}
{{- $idle := int64 .Values.ingress.idleSeconds -}}
{{- $https := eq (include "holdfast.clientScheme" .) "https" -}}
{{- $controller := .Values.ingress.controller -}}
{{- if eq $controller "ingress-nginx" -}}
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-request-buffering: "off"
nginx.ingress.kubernetes.io/proxy-http-version: "1.1"
nginx.ingress.kubernetes.io/proxy-body-size: "0"
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ $idle | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: {{ $idle | quote }}
{{- if $https }}
nginx.ingress.kubernetes.io/backend-protocol: HTTPS
{{- end }}
{{- else if eq $controller "nginx" -}}
nginx.org/proxy-buffering: "False"
nginx.org/client-max-body-size: "0"
nginx.org/proxy-read-timeout: {{ printf "%ds" $idle }}
nginx.org/proxy-send-timeout: {{ printf "%ds" $idle }}
{{- if $https }}
nginx.org/ssl-services: {{ include "holdfast.fullname" . | quote }}
{{- end }}
{{- else if eq $controller "haproxytech" -}}
haproxy.org/timeout-server: {{ printf "%ds" $idle }}
{{- if $https }}
haproxy.org/server-ssl: "true"
{{- end }}
{{- else if eq $controller "haproxy-ingress" -}}
haproxy-ingress.github.io/timeout-server: {{ printf "%ds" $idle }}
{{- if $https }}
haproxy-ingress.github.io/backend-protocol: h1-ssl
{{- end }}
{{- else if eq $controller "alb" -}}
alb.ingress.kubernetes.io/target-type: ip
alb.ingress.kubernetes.io/load-balancer-attributes: {{ printf "idle_timeout.timeout_seconds=%d" (min $idle 4000) }}
alb.ingress.kubernetes.io/target-group-attributes: {{ printf "deregistration_delay.timeout_seconds=%d" (min (include "holdfast.graceSeconds" . | int64) 3600) }}
{{- /* Not the clients' port: an ALB asks by address, which config.http.allowed_hosts may refuse. */}}
alb.ingress.kubernetes.io/healthcheck-port: {{ include "holdfast.adminPort" . | quote }}
alb.ingress.kubernetes.io/healthcheck-protocol: {{ include "holdfast.adminScheme" . | upper }}
alb.ingress.kubernetes.io/healthcheck-path: /readyz
alb.ingress.kubernetes.io/backend-protocol: {{ ternary "HTTPS" "HTTP" $https }}
{{- end -}}
{{- end }}
