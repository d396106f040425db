{{/* What is wrong before anything is made. A text that names the fault and what to write is worth more than pods that
     don't start. What the application itself refuses is left to it. */}}
{{- define "holdfast.checks" -}}
{{- $given := include "holdfast.given" . | fromYaml -}}
{{- $config := $given.config -}}
{{- $variables := include "holdfast.extraVariables" . -}}
{{- $auth := default (dict) $config.auth -}}

{{- range $map := list "config" "configSecrets" "configFiles" -}}
{{- range $key, $_ := get $given $map -}}
{{- if not (has (splitList "." $key | first) (include "holdfast.keys" $ | splitList " ")) -}}
{{- fail (printf "\n\n%s: the configuration has no `%s`. At its top are: %s." $map $key (include "holdfast.keys" $ | replace " " ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key := list "listen" "admin.listen" "admin.expose" "drain.notice" "drain.handover" "drain.timeout" "http.tls.certificate_file" "admin.tls.certificate_file" -}}
{{- $variable := include "holdfast.variable" $key -}}
{{- if or (contains (printf " %s " $variable) $variables) (hasKey $given.configSecrets $key) -}}
{{- fail (printf "\n\n%s is computed with: write config.%s%s instead of the variable %s." $key $key (ternary ", or configFiles," "" (hasSuffix "_file" $key)) $variable) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexFind "^--(config|listen|admin-listen|state|bus)(=|$)" . | trimSuffix "=" -}}
{{- if $flag -}}
{{- fail (printf "\n\nextraArgs: the chart computes with what %s would change, and flags win over the configuration. Write config.%s instead." $flag (trimPrefix "--" $flag | replace "-" ".")) -}}
{{- end -}}
{{- end -}}
{{- if not (has (toString $config.admin.expose) (list "true" "on" "yes")) -}}
{{- fail "\n\nThe kubelet has to reach the admin port: config.admin.expose must be true." -}}
{{- end -}}

{{- /* Who may call. */ -}}
{{- $mode := toString (default "" $auth.mode) -}}
{{- if contains " HOLDFAST_AUTH_MODE " $variables }}{{ $mode = "variable" }}{{ end -}}
{{- if and (.Values.auth).generateToken (has $mode (list "none")) -}}
{{- fail "\n\nauth.generateToken and config.auth.mode: none exclude each other." -}}
{{- end -}}
{{- if and (eq $mode "") (not (.Values.auth).generateToken) -}}
{{- fail (include "holdfast.chooseAuth" .) -}}
{{- end -}}
{{- if and (eq $mode "none") (not (has (toString $auth.insecure) (list "true" "on" "yes"))) -}}
{{- fail "\n\nWith config.auth.mode: none whoever reaches the pods is everybody. If that is meant, write config.auth.insecure: true as well." -}}
{{- end -}}
{{- if and (eq $mode "tokens") (not (.Values.auth).generateToken) -}}
{{- $some := or $auth.tokens $auth.issuers .Values.extraEnvFrom (regexMatch " HOLDFAST_AUTH_(TOKENS|ISSUERS)_" $variables) -}}
{{- range $key, $_ := $given.configSecrets -}}
{{- if regexMatch "^auth\\.(tokens|issuers)\\." $key }}{{ $some = true }}{{ end -}}
{{- end -}}
{{- if not $some -}}
{{- fail "\n\nWith config.auth.mode: tokens nobody could log in: there are no tokens and no issuers, neither in config.auth nor in configSecrets." -}}
{{- end -}}
{{- end -}}

{{- /* What nodes share. */ -}}
{{- if and ((.Values.embedded).redis).enabled (or $config.state (hasKey $given.configSecrets "state")) -}}
{{- fail "\n\nThere are two Redises: embedded.redis.enabled, and a `state` of your own. Choose one." -}}
{{- end -}}
{{- if and ((.Values.embedded).nats).enabled (or $config.bus (hasKey $given.configSecrets "bus")) -}}
{{- fail "\n\nThere are two NATSes: embedded.nats.enabled, and a `bus` of your own. Choose one." -}}
{{- end -}}
{{- if and (.Values.autoscaling).enabled (gt (int (.Values.autoscaling).minReplicas) (int (.Values.autoscaling).maxReplicas)) -}}
{{- fail "\n\nautoscaling.minReplicas is above autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and (gt (include "holdfast.replicasMax" . | int) 1) (ne (include "holdfast.state" .) "none") -}}
{{- $missing := dict -}}
{{- if eq (include "holdfast.state" .) "memory" }}{{ $_ := set $missing "state" "their sessions, in a Redis: config.state, configSecrets.state (a URL in a Secret), or, for trying out, embedded.redis.enabled" }}{{ end -}}
{{- if eq (include "holdfast.bus" .) "memory" }}{{ $_ := set $missing "bus" "their messages, over a NATS: config.bus, configSecrets.bus (a URL in a Secret), or, for trying out, embedded.nats.enabled" }}{{ end -}}
{{- if $missing -}}
{{- $number := ternary "autoscaling.maxReplicas" "replicaCount" (default false (.Values.autoscaling).enabled) -}}
{{- fail (printf "\n\n%s nodes (%s) have to share:\n  %s\nGive %s, or run one node." (include "holdfast.replicasMax" .) $number (values $missing | sortAlpha | reverse | join "\n  ") (ternary "both" "it" (eq (len $missing) 2))) -}}
{{- end -}}
{{- end -}}

{{- /* What Kubernetes would refuse, or worse, would do. */ -}}
{{- if and (eq .Values.kind "Deployment") (eq (toString .Values.rollingUpdate.maxSurge) "0") (eq (toString .Values.rollingUpdate.maxUnavailable) "0") -}}
{{- fail "\n\nWith rollingUpdate.maxSurge and maxUnavailable both 0 no pod could ever be replaced." -}}
{{- end -}}
{{- if and (.Values.autoscaling).enabled (not ((.Values.autoscaling).cpu).averageUtilization) (not ((.Values.autoscaling).streams).averageValue) (not (.Values.autoscaling).extraMetrics) -}}
{{- fail "\n\nautoscaling has nothing to go by: set cpu.averageUtilization, streams.averageValue or extraMetrics." -}}
{{- end -}}
{{- if and (.Values.ingress).enabled (not (.Values.ingress).hosts) -}}
{{- fail "\n\ningress.enabled needs ingress.hosts." -}}
{{- end -}}
{{- if and (.Values.httpRoute).enabled (not (.Values.httpRoute).parentRefs) -}}
{{- fail "\n\nhttpRoute.enabled needs httpRoute.parentRefs: the Gateway that it is attached to." -}}
{{- end -}}
{{- end }}

{{- define "holdfast.chooseAuth" }}


Who may call this gateway? Choose one of these; there is no default.

  For trying out, a token that the chart makes and keeps in a Secret:
    --set auth.generateToken=true

  Tokens of your identity provider, or static ones (`holdfast token NAME` makes one):
    config:
      auth:
        mode: tokens
        issuers:
          corp: { issuer: https://login.example.com }
        tokens:
          ci: { sha256: … }          # or in a Secret: configSecrets

  Everybody who can reach it:
    config:
      auth: { mode: none, insecure: true }

docs/security.md says what each means.
{{ end }}
