#!/usr/bin/env python3
"""The six dashboards, from which the JSON files beside this one are written: `dashboards.py` writes them, `dashboards.py
--check` says whether they are current. How they look is in panels.py, what a query may ask for in docs/metrics.md, and what
a color means in ../prometheus/alerts.yaml: a panel turns red where an alert fires.
"""

import json
import sys
from pathlib import Path

from panels import board, dashboard, graph, heatmap, quantile, quantiles, rate, row, runbook, share, stat, states, table

FOLDER = Path(__file__).parent

# The same at each node of a cluster.
SESSIONS = "sum(max by (namespace, job) (holdfast_sessions{@}))"
NODES_GONE = "up{@} == 0 and on (namespace, job, instance) last_over_time(holdfast_build_info{@}[1d])"
# Not by node: most alerts are of the whole cluster.
FIRING = 'ALERTS{alertname=~"Holdfast.+",alertstate="firing",namespace=~"$namespace",job=~"$job"}'
STORE, BUS = "holdfast_store_operations_total", "holdfast_bus_operations_total"
STORE_SECONDS = "holdfast_store_operation_duration_seconds"
BUS_SECONDS = "holdfast_bus_operation_duration_seconds"
DELIVERY = "holdfast_event_delivery_duration_seconds"
FAILED = '@,outcome=~"upstream_failed|timed_out"'
FAILED_SHARE = share(rate("holdfast_exchanges_ended_total", FAILED), rate("holdfast_exchanges_ended_total"))
STORE_FAILED = share(rate(STORE, '@,outcome=~"unavailable|unknown"'), rate(STORE))
# The rest is taken by a client whose NATS is frozen.
BUS_FAILED = share(rate(BUS, '@,operation="ping",outcome="unavailable"'), rate(BUS, '@,operation="ping"'))
REFUSED = "holdfast_requests_refused_total"
REFUSED_BY_KIND = {
    "credentials (401, 403)": rate(REFUSED, '@,status=~"401|403"'),
    "limits (408, 413, 429, 431)": rate(REFUSED, '@,status=~"408|413|429|431"'),
    "not available (5xx)": rate(REFUSED, '@,status=~"5.."'),
    "no such session or path (404)": rate(REFUSED, '@,status="404"'),
    "other": rate(REFUSED, '@,status!~"401|403|404|408|413|429|431|5.."'),
}
UPSTREAM_FAILED = share(
    rate("holdfast_upstream_errors_total", '@@,error!="session_gone"', "server"),
    rate("holdfast_upstream_requests_total", "@@", "server"),
    else_zero=False,
)
FIRST_MESSAGE = "holdfast_upstream_first_message_seconds"
LIMITS_USED = "max by (limit) (holdfast_limit_used{@} / holdfast_limit{@})"
AUTH_REFUSED = '@,outcome!~"accepted|missing|insufficient_scope|unavailable"'
PHASES = {1: ("starting", "blue"), 2: ("ready", "green"), 3: ("leaving", "yellow"), 4: ("draining", "orange"), 5: ("stopped", "red")}
PHASE = " + on (instance) ".join(
    f'{value} * max by (instance) (holdfast_phase{{@,phase="{name}"}})' for value, (name, _) in PHASES.items()
)


def overview():
    return dashboard(
        "overview",
        "Overview",
        """Is it well, and if not, where to look: from here each fault is a click away from the dashboard that explains it.""",
        [
            row(
                "Now",
                stat("Nodes ready", "Nodes that /readyz says yes for. At 0 balancers send nobody here.", "sum(holdfast_ready{@}) or vector(0)",
                     defaults={"thresholds": {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]}},
                     links=[board("node", "One node"), runbook("HoldfastNoNodeReady", "nodes")]),
                stat("Nodes missing", "Scraped today and not to be reached now, or not ready. During a rollout this is one at a time; otherwise look which it is, below.",
                     f"(count({NODES_GONE}) or vector(0)) + (count(holdfast_ready{{@}} == 0) or vector(0))",
                     steps={1: "orange"}, links=[runbook("HoldfastNodeDown", "nodes")]),
                stat("Alerts firing", "Of Holdfast's own rules. Each has a runbook.", f"count({FIRING}) or vector(0)", steps={1: "red"}),
                stat("Requests failing", "Share of all requests that a server did not answer, or not in time. Red: more than one in ten.", FAILED_SHARE,
                     unit="percentunit", steps={0.02: "orange", 0.1: "red"}, links=[board("upstreams", "Upstreams"), runbook("HoldfastRequestsFailing", "clients")]),
                stat("Sessions", "Sessions of legacy clients that exist, wherever they are used.", SESSIONS, links=[board("sessions", "Sessions and streams")]),
                stat("Streams", "Event streams open at all nodes.", "sum(holdfast_streams{@})", links=[board("sessions", "Sessions and streams")]),
            ),
            row(
                "What clients get",
                graph("Requests by outcome", "Requests that ended, by how. `answered` is whatever a server said, errors of its own among it; `upstream_failed` and `timed_out` are answered with an error by Holdfast.",
                      {"{{outcome}}": rate("holdfast_exchanges_ended_total", by="outcome")}, unit="reqps", stacked=True, links=[board("sessions", "Sessions and streams")]),
                graph("Request durations", "From a request to its end. Tools that take long by nature take long here; a step upwards of all three lines is a slow server or a slow Redis.",
                      quantiles("holdfast_exchange_duration_seconds"), unit="s", links=[board("upstreams", "Upstreams")]),
                graph("Requests refused", "What was refused before a server saw it. 401 before a login is as it should be; 5xx is not: Redis, an issuer or a server is away, or a limit of all is reached.",
                      REFUSED_BY_KIND, unit="reqps", links=[runbook("HoldfastRequestsRefused", "clients")]),
            ),
            row(
                "Nodes and load",
                graph("Nodes", "`ready` below `seen` means that one is starting, leaving or alone; `gone` were scraped today and don't answer. Red marks are deaths that others saw.",
                      {"ready": "sum(holdfast_ready{@}) or vector(0)", "seen by each other": "max(holdfast_nodes{@})", "gone": f"count({NODES_GONE}) or vector(0)"},
                      links=[board("node", "One node"), runbook("HoldfastNodeDied", "nodes")]),
                graph("Sessions opened and ended", "In a second. Opened far above ended, or five times what is usual, is a client in a loop or everybody coming back at once.",
                      {"opened": rate("holdfast_sessions_opened_total"), "ended": rate("holdfast_sessions_ended_total")}, unit="cps",
                      links=[board("sessions", "Sessions and streams"), runbook("HoldfastSessionFlood", "clients")]),
                graph("Limits used", "The five limits that are nearest to being reached, at the node or by the client that uses most. At 100 % whoever comes next is refused.",
                      {"{{limit}}": f"topk(5, {LIMITS_USED})"}, unit="percentunit", steps={0.8: "red"}, links=[runbook("HoldfastLimitNear", "clients")]),
            ),
            row(
                "Streams",
                graph("Streams ended early", "`lagged`: its client reads too slowly; it resumes and goes on. `failed`: what fed it is gone. `draining`: handed to other nodes.",
                      {"{{reason}}": rate("holdfast_streams_ended_total", '@,reason=~"lagged|failed|draining|expired|closed"', "reason")}, unit="cps", steps={0.05: "red"},
                      links=[board("delivery", "Delivery and resume"), runbook("HoldfastStreamsLagging", "delivery")]),
                graph("Delivery time", "From an event's append to its socket, through another node if need be. Some ms; seconds mean that messages between nodes are missing.",
                      quantiles(DELIVERY), unit="s", steps={1: "red"}, links=[board("delivery", "Delivery and resume"), runbook("HoldfastDeliverySlow", "delivery")]),
                graph("Resumes", "Clients that came back. `lost`, `gone` and `postponed` did not get what they had missed.",
                      {"{{outcome}}": rate("holdfast_resumes_total", by="outcome")}, unit="cps", links=[board("delivery", "Delivery and resume"), runbook("HoldfastResumesFailing", "delivery")]),
            ),
            row(
                "What it stands on",
                graph("Servers failing", "Share of a server's requests that it failed. Red: more than one in ten.", {"{{server}}": UPSTREAM_FAILED}, unit="percentunit", steps={0.1: "red"},
                      links=[board("upstreams", "Upstreams"), runbook("HoldfastUpstreamFailing", "upstreams")]),
                graph("Servers' first word", "What nine in ten requests wait at most for a server's first message. Red: five seconds.",
                      {"{{server}}": quantile(0.9, FIRST_MESSAGE, "@@", "server")}, unit="s", steps={5: "red"}, links=[board("upstreams", "Upstreams"), runbook("HoldfastUpstreamSlow", "upstreams")]),
                graph("Redis and NATS failing", "Share of what was asked of them that failed. All of it: it is away. A part: one node's way, or one primary of several.",
                      {"Redis": STORE_FAILED, "NATS": BUS_FAILED}, unit="percentunit", steps={0.5: "red"},
                      links=[board("backends", "Redis and NATS"), runbook("HoldfastRedisAway", "backends"), runbook("HoldfastNatsAway", "backends")]),
                graph("Redis and NATS durations", "The slowest step in a hundred. Each event of a stream waits for one of Redis; 100 ms is much.",
                      {"Redis p99": quantile(0.99, STORE_SECONDS), "NATS p99": quantile(0.99, BUS_SECONDS, '@,operation!="relay"')}, unit="s", steps={0.1: "red"},
                      links=[board("backends", "Redis and NATS"), runbook("HoldfastRedisSlow", "backends")]),
                graph("Credentials refused", "Tokens that were shown and not taken, by why. A crowd of `invalid` is somebody trying; of `expired`, a client that does not renew its own.",
                      {"{{outcome}}": rate("holdfast_auth_credentials_total", AUTH_REFUSED, "outcome")}, unit="cps", links=[runbook("HoldfastAuthFailing", "access")]),
                table("Alerts", "What fires now. The name leads to its runbook in docs/runbooks.", f"max by (alertname, severity, server, limit, instance) ({FIRING})", hidden=["Value"], width=8),
            ),
        ],
        servers=True,
    )


def sessions():
    ended, lookups = "holdfast_streams_ended_total", "holdfast_session_lookups_total"
    return dashboard(
        "sessions",
        "Sessions and streams",
        """Who is connected, since when, in which era and over which transport, and who was not let in.""",
        [
            row(
                "Sessions",
                graph("Sessions", "Those that exist, beside what `limits.sessions_max` allows.",
                      {"sessions": SESSIONS, "allowed": 'max(holdfast_limit{@,limit="limits.sessions_max"})'}, links=[runbook("HoldfastLimitNear", "clients")]),
                graph("Opened by transport", "`http_sse` is the transport of 2024-11-05. Clients of 2026-07-28 open none.", {"{{transport}}": rate("holdfast_sessions_opened_total", by="transport")},
                      unit="cps", stacked=True, links=[runbook("HoldfastSessionFlood", "clients")]),
                graph("Ended by reason", "`idle` are those that nobody ended; many of them mean that clients never say goodbye, and that `sessions.idle_timeout` decides how many there are.",
                      {"{{reason}}": rate("holdfast_sessions_ended_total", by="reason")}, unit="cps", stacked=True),
                graph("Claims of new sessions", "`full`: `limits.sessions_max` is reached. `unavailable`: Redis did not answer. `foreign`: somebody tried another's id.",
                      {"{{outcome}}": rate("holdfast_claims_total", by="outcome")}, unit="cps", links=[runbook("HoldfastLimitHit", "clients")]),
                graph("Sessions looked up", "`cached` costs nothing, `loaded` a step of Redis. `absent` and `foreign` get 404: sessions that have ended, or were never this caller's.",
                      {"{{outcome}}": rate(lookups, by="outcome")}, unit="ops"),
                graph("How long sessions last", "Of those that ended. Seconds mean that a client opens one for each call.",
                      {"p50": quantile(0.5, "mcp_server_session_duration_seconds"), "p90": quantile(0.9, "mcp_server_session_duration_seconds")}, unit="s"),
            ),
            row(
                "Streams",
                graph("Streams by kind", "`get`: a session's own stream; `post`: of one request; `http_sse`: both at once.", {"{{era}} {{kind}}": "sum by (era, kind) (holdfast_streams{@@})"}, stacked=True),
                graph("Streams by server", "Which server keeps them busy.", {"{{server}}": "sum by (server) (holdfast_streams{@@})"}, stacked=True),
                graph("Streams by node", "Uneven after a rollout, until clients come back; `streams.life_max` evens it out.", {"{{instance}}": "sum by (instance) (holdfast_streams{@@})"},
                      links=[board("node", "One node")]),
                graph("Streams ended", "By why. `finished` had its last answer, `client_gone` is everyday; for the others see Delivery and resume.", {"{{reason}}": rate(ended, by="reason")},
                      unit="cps", stacked=True, links=[board("delivery", "Delivery and resume")]),
                graph("What waits for readers", "Events that open streams hold because their clients read slowly.", {"{{instance}}": 'sum by (instance) (holdfast_queue_length{@,queue="stream_events"})'},
                      links=[runbook("HoldfastStreamsLagging", "delivery")]),
                graph("Bytes that wait for readers", "The memory that slow readers cost. `streams.buffer_bytes_max` bounds each.", {"{{instance}}": "sum by (instance) (holdfast_stream_queue_bytes{@})"}, unit="bytes"),
            ),
            row(
                "Requests",
                graph("Requests running", "Asked and not answered, by node.", {"{{instance}}": "sum by (instance) (holdfast_exchanges{@})"}, stacked=True),
                graph("Requests by method", "The ten most frequent.", {"{{method}}": f"topk(10, {rate('holdfast_exchanges_ended_total', by='method')})"}, unit="reqps"),
                graph("Requests by era", "What clients speak, and what the servers behind it do.", {"{{client_era}} to {{server_era}}": rate("holdfast_exchanges_ended_total", by="client_era, server_era")},
                      unit="reqps", stacked=True),
                graph("Slowest methods", "95th percentile of the five slowest.", {"{{method}}": f"topk(5, {quantile(0.95, 'holdfast_exchange_duration_seconds', by='method')})"}, unit="s"),
                graph("Answers in plain JSON", "Requests answered within `requests.json_wait`, beside all: the rest took a stream, which costs more.",
                      {"in JSON": rate("holdfast_json_answers_total"), "all": rate("holdfast_exchanges_ended_total")}, unit="reqps"),
                graph("Operations by OpenTelemetry's name", "`mcp.server.operation.duration`, 95th percentile of the five slowest methods.",
                      {"{{mcp_method_name}}": f"topk(5, {quantile(0.95, 'mcp_server_operation_duration_seconds', by='mcp_method_name')})"}, unit="s"),
            ),
            row(
                "Access and limits",
                graph("Connections", "Open connections, by node. Uneven: the balancer favors one, or one has just started.", {"{{instance}}": "sum by (instance) (holdfast_connections{@})"}),
                graph("Credentials", "What requests came with, and what was found. `missing` precedes every login.", {"{{credential}}: {{outcome}}": f"topk(10, {rate('holdfast_auth_credentials_total', by='credential, outcome')})"},
                      unit="cps", links=[runbook("HoldfastAuthFailing", "access")]),
                graph("Issuers", "Looks at issuers' keys that failed, and how long an issuer takes to say what a token is worth.",
                      {"keys not read": rate("holdfast_auth_key_reads_total", '@,outcome="error"'), "keys read": rate("holdfast_auth_key_reads_total", '@,outcome="ok"'),
                       "asked about tokens": rate("holdfast_auth_introspection_duration_seconds_count")}, unit="cps", links=[runbook("HoldfastIssuerAway", "access")]),
                graph("Limits hit", "How often a limit was met, the ten that were met most. `limits.principal.*` concern one caller, the others everybody.",
                      {"{{limit}}": f"topk(10, {rate('holdfast_limit_hits_total', by='limit')})"}, unit="cps", links=[runbook("HoldfastLimitHit", "clients"), runbook("HoldfastPrincipalLimited", "clients")]),
                graph("Failed TLS handshakes", "Connections that ended before their handshake did: health checks without TLS, or a certificate that nobody trusts.",
                      {"{{instance}}": rate("holdfast_tls_handshakes_failed_total", by="instance")}, unit="cps", links=[runbook("HoldfastHandshakesFailing", "access")]),
                graph("Audit log", "Events lost are in no other place. Those suppressed are counted in the log instead of being named each.",
                      {"lost": rate("holdfast_audit_lost_total"), "suppressed": rate("holdfast_audit_suppressed_total")}, unit="cps", links=[runbook("HoldfastAuditLost", "access")]),
            ),
        ],
        servers=True,
    )


def delivery():
    return dashboard(
        "delivery",
        "Delivery and resume",
        """What becomes of an event between the server that says it and the client that reads it, and of clients that come back.""",
        [
            row(
                "Events",
                graph("Events", "Appended to the log, handed to open streams, replayed to clients that came back. Delivered far below appended: nobody listens, or clients are away.",
                      {"appended": rate("holdfast_events_appended_total"), "delivered": rate("holdfast_events_delivered_total"), "replayed": rate("holdfast_events_replayed_total"),
                       "dropped as duplicates": rate("holdfast_events_duplicate_total")}, unit="eps", width=12),
                heatmap("Delivery time, spread", "From append to socket. A band at 1 to 3 s is events whose message between nodes got lost and that were read from the log.", DELIVERY,
                        links=[runbook("HoldfastDeliverySlow", "delivery")]),
                graph("Delivery time", "Quantiles of the same.", quantiles(DELIVERY), unit="s", steps={1: "red"}, links=[runbook("HoldfastDeliverySlow", "delivery")]),
                graph("Gaps and resyncs", "Gaps are single messages that got lost, resyncs are streams that read their log because a message may have been. Both cost Redis a step and clients nothing.",
                      {"gaps": rate("holdfast_stream_gaps_total"), "resyncs": rate("holdfast_stream_resyncs_total"), "missed": rate("holdfast_bus_missed_total")}, unit="cps",
                      links=[board("backends", "Redis and NATS"), runbook("HoldfastBusMissed", "backends")]),
                graph("Answers that nobody awaited", "Answers and notifications of clients for requests that had ended. Some are natural after a cancel.", {"{{instance}}": rate("holdfast_answers_dropped_total", by="instance")}, unit="cps"),
            ),
            row(
                "Resumes",
                graph("Resumes by outcome", "`lost`: the log no longer reaches back (`log.event_ttl`, `log.events_max`). `gone`: the session is. `postponed`: Redis was away, they come again. `ended`: nothing was left to say.",
                      {"{{outcome}}": rate("holdfast_resumes_total", by="outcome")}, unit="cps", stacked=True, width=12, links=[runbook("HoldfastResumesFailing", "delivery")]),
                stat("Resumes that failed", "Share that did not get what they had missed. Red: one in five.",
                     share(rate("holdfast_resumes_total", '@,outcome=~"lost|gone|postponed"'), rate("holdfast_resumes_total")), unit="percentunit", steps={0.05: "orange", 0.2: "red"}, height=7,
                     links=[runbook("HoldfastResumesFailing", "delivery")]),
                graph("Streams ended early", "`lagged` streams are resumed at once; the same client lagging again and again reads too slowly.",
                      {"{{reason}}": rate("holdfast_streams_ended_total", '@,reason!~"finished|client_gone"', "reason")}, unit="cps", links=[runbook("HoldfastStreamsLagging", "delivery")]),
            ),
            row(
                "Between nodes",
                graph("Takeovers", "Requests of dead nodes. `resumed`: the server was asked for the rest. `error`: the client was told that the answer is lost.",
                      {"{{outcome}}": rate("holdfast_takeovers_total", by="outcome")}, unit="cps", links=[runbook("HoldfastNodeDied", "nodes")]),
                graph("Fences", "`refused`: a node was too late for a newer one, as after it was frozen; it did no harm.", {"{{step}}: {{outcome}}": f"topk(10, {rate('holdfast_fences_total', by='step, outcome')})"}, unit="ops"),
                graph("Messages received", "Of other nodes, by kind.", {"{{message}}": rate("holdfast_bus_received_total", by="message")}, unit="ops", links=[board("backends", "Redis and NATS")]),
                graph("Inbox", "Messages of other nodes that wait to be read. Near `nats.inbox_max` they are dropped and read from the log.", {"{{instance}}": 'max by (instance) (holdfast_queue_length{@,queue="inbox"})'},
                      steps={10000: "red"}, links=[runbook("HoldfastInboxFilling", "backends")]),
                graph("What is still to be told", "`releases`: bindings of ended streams, `farewells`: sessions that servers are told to end. They grow while Redis or a server is away.",
                      {"{{queue}}": 'sum by (queue) (holdfast_queue_length{@,queue=~"releases|farewells"})'}),
                graph("Requests left behind", "Requests that a node which ended left to others: more than none at a rollout means that `drain.timeout` is too short for them.",
                      {"left behind": rate("holdfast_exchanges_ended_total", '@,outcome="left_behind"'), "abandoned": rate("holdfast_exchanges_ended_total", '@,outcome="abandoned"')}, unit="cps",
                      links=[runbook("HoldfastDrainLong", "nodes")]),
            ),
        ],
    )


def upstreams():
    calls, seconds = "holdfast_tool_calls_total", "holdfast_tool_call_duration_seconds"
    errors = "holdfast_upstream_errors_total"

    def of_calls(outcomes):
        part = rate(calls, f'@@,outcome=~"{outcomes}"', "server, tool")
        return share(part, rate(calls, "@@", "server, tool"), else_zero=False)

    return dashboard(
        "upstreams",
        "Upstreams",
        """The MCP servers: whether they answer, how fast, and which of their tools fail.""",
        [
            row(
                "Servers",
                graph("Failing", "Share of a server's requests that it failed, forgotten sessions aside. Red: one in ten.", {"{{server}}": UPSTREAM_FAILED}, unit="percentunit", steps={0.1: "red"},
                      links=[runbook("HoldfastUpstreamFailing", "upstreams")]),
                graph("Failures by kind", "`unreachable`: no connection. `refused`: an HTTP status. `late`: nothing within its timeout. `invalid`: not MCP. `interrupted`: broke off. `session_gone`: forgot the session.",
                      {"{{server}}: {{error}}": rate(errors, "@@", "server, error")}, unit="cps", links=[runbook("HoldfastUpstreamFailing", "upstreams")]),
                graph("HTTP requests by status", "404 is how a server says that it forgot a session, 405 that it has no stream of its own: some 4xx is natural.",
                      {"{{status}}": rate("holdfast_upstream_requests_total", "@@", "status")}, unit="reqps", stacked=True),
                graph("First word", "What nine in ten requests wait at most for the first message, progress or answer. Red: five seconds.",
                      {"{{server}}": quantile(0.9, FIRST_MESSAGE, "@@", "server")}, unit="s", steps={5: "red"}, links=[runbook("HoldfastUpstreamSlow", "upstreams")]),
                graph("HTTP response", "From an HTTP request to the head of its response, 95th percentile.", {"{{server}}": quantile(0.95, "holdfast_upstream_request_duration_seconds", "@@", "server")}, unit="s"),
                graph("Calls unanswered", "Requests whose answer a server owes. Growing without end: it hangs, and calls will time out.", {"{{server}}": "sum by (server) (holdfast_upstream_calls{@@})"},
                      links=[runbook("HoldfastUpstreamSlow", "upstreams")]),
            ),
            row(
                "Tools",
                graph("Calls by outcome", "`tool_error` is a result that says so and reaches the model; `error` is a JSON-RPC error; `failed` has no answer.", {"{{outcome}}": rate(calls, "@@", "outcome")}, unit="reqps", stacked=True,
                      links=[runbook("HoldfastToolCallsFailing", "clients")]),
                graph("Most called tools", "Ten at most. Beyond `metrics.tools_max` names, and for tools that never succeeded, it says `other`.", {"{{server}} {{tool}}": f"topk(10, {rate(calls, '@@', 'server, tool')})"}, unit="reqps"),
                graph("Slowest tools", "95th percentile of the ten slowest.", {"{{server}} {{tool}}": f"topk(10, {quantile(0.95, seconds, '@@', 'server, tool')})"}, unit="s"),
                graph("Tools that fail", "Share of a tool's calls that end with a JSON-RPC error or without an answer, the ten worst.",
                      {"{{server}} {{tool}}": f"topk(10, {of_calls('error|failed')})"},
                      unit="percentunit", steps={0.1: "red"}, links=[runbook("HoldfastToolCallsFailing", "clients")]),
                graph("Tools that say they failed", "Share of results with `isError`: the tool's own matter, and often the caller's.",
                      {"{{server}} {{tool}}": f"topk(10, {of_calls('tool_error')})"}, unit="percentunit"),
                graph("Operations by OpenTelemetry's name", "`mcp.client.operation.duration`, 95th percentile of the five slowest methods.",
                      {"{{mcp_method_name}}": f"topk(5, {quantile(0.95, 'mcp_client_operation_duration_seconds', '@@', 'mcp_method_name')})"}, unit="s"),
            ),
            row(
                "Sessions at servers",
                graph("Opened, closed, failed", "Failed openings are answered with 502.",
                      {"opened": rate("holdfast_upstream_sessions_opened_total", '@@,outcome="ok"'), "not opened": rate("holdfast_upstream_sessions_opened_total", '@@,outcome="error"'),
                       "closed": rate("holdfast_upstream_sessions_closed_total", '@@,outcome="ok"'), "not closed": rate("holdfast_upstream_sessions_closed_total", '@@,outcome="error"')}, unit="cps"),
                graph("Forgotten by servers", "Sessions that a server lost and that were opened anew, log level and subscriptions included. Now and then: it restarted. All the time: several behind one address without affinity.",
                      {"{{server}}": rate("holdfast_upstream_sessions_lost_total", "@@", "server")}, unit="cps", links=[runbook("HoldfastUpstreamSessionsLost", "upstreams")]),
                graph("How long they last", "Median of the sessions at each server.", {"{{server}}": quantile(0.5, "mcp_client_session_duration_seconds", "@@", "server")}, unit="s"),
                graph("Relays", "Of pinned servers: requests that one node has another's server do, open now.", {"{{side}}": "sum by (side) (holdfast_relays{@})"}),
                graph("Relays ended", "`node_gone` did not run, `failed` may have run; both are answered with 502.", {"{{outcome}}": rate("holdfast_relays_ended_total", by="outcome")}, unit="cps",
                      links=[runbook("HoldfastRelaysFailing", "upstreams")]),
            ),
        ],
        servers=True,
    )


def backends():
    return dashboard(
        "backends",
        "Redis and NATS",
        """What nodes share: the state in Redis, and the messages between them over NATS.""",
        [
            row(
                "Redis",
                graph("Redis failing", "Share of the steps that failed, by node. All nodes: Redis is away. One: its way to Redis is bad.",
                      {"{{instance}}": share(rate(STORE, '@,outcome=~"unavailable|unknown"', "instance"), rate(STORE, by="instance"), else_zero=False)}, unit="percentunit", steps={0.01: "orange", 0.5: "red"},
                      links=[runbook("HoldfastRedisAway", "backends"), runbook("HoldfastRedisErrors", "backends")]),
                graph("Steps by outcome", "`unavailable` did not run, `unknown` may have run, `dropped` was not waited for.", {"{{outcome}}": rate(STORE, by="outcome")}, unit="ops", stacked=True),
                graph("Steps by kind", "The ten most frequent. `append` is an event, `beat` a sign of life.", {"{{operation}}": f"topk(10, {rate(STORE, by='operation')})"}, unit="ops"),
                graph("Redis durations", "Of all steps. Each event of a stream waits for one.", quantiles(STORE_SECONDS), unit="s", steps={0.1: "red"}, links=[runbook("HoldfastRedisSlow", "backends")]),
                graph("Slowest steps", "99th percentile of the ten slowest kinds.", {"{{operation}}": f"topk(10, {quantile(0.99, STORE_SECONDS, by='operation')})"}, unit="s"),
                graph("Lease age", "Since each node renewed its lease. A saw below `cluster.lease` is well; a ramp is a node that can't reach Redis.",
                      {"{{instance}}": "max by (instance) (holdfast_lease_age_seconds{@})"}, unit="s", links=[runbook("HoldfastLeaseOld", "nodes")]),
                heatmap("Redis durations, spread", "A second band far above the first is a Redis that stalls now and then: persistence, a slow script of somebody else, a busy processor.", STORE_SECONDS),
                graph("Rates counted together", "With `limits.shared`: `alone` was decided without Redis.", {"{{outcome}}": rate("holdfast_shared_rates_total", by="outcome")}, unit="ops", width=12),
            ),
            row(
                "NATS",
                graph("NATS failing", "Share of each node's pings that were not answered. All nodes: NATS is away. One: its way to NATS is bad.",
                      {"{{instance}}": share(rate(BUS, '@,operation="ping",outcome="unavailable"', "instance"), rate(BUS, '@,operation="ping"', "instance"), else_zero=False)}, unit="percentunit", steps={0.5: "red"},
                      links=[runbook("HoldfastNatsAway", "backends")]),
                graph("Messages by outcome", "`no_responders`: the node that was meant is gone. `full`: more is under way than may be.", {"{{outcome}}": rate(BUS, by="outcome")}, unit="ops", stacked=True),
                graph("Messages by kind", "`send` is for one node, `announce` for all, `ping` asks whether NATS and a node are there.", {"{{operation}}": rate(BUS, by="operation")}, unit="ops"),
                graph("NATS durations", "99th percentile. A `relay` waits for another node's server on purpose.", {"{{operation}}": quantile(0.99, BUS_SECONDS, by="operation")}, unit="s"),
                graph("Messages missed", "How often messages may have been lost: a reconnect, a full inbox, a clock that is off. Nodes read their logs then.", {"{{instance}}": rate("holdfast_bus_missed_total", by="instance")}, unit="cps",
                      links=[runbook("HoldfastBusMissed", "backends")]),
                graph("Messages received", "Of other nodes, by kind. None at all while others send: NATS does not carry them.", {"{{message}}": rate("holdfast_bus_received_total", by="message")}, unit="ops"),
                graph("Messages refused", "With `cluster.keys`: nothing shows that a node sent them. `stale` alone is a clock that is off.", {"{{reason}}": rate("holdfast_bus_refused_total", by="reason")}, unit="cps",
                      links=[runbook("HoldfastBusRefused", "backends")]),
                graph("Unsigned, and clients replaced", "Unsigned messages are taken while `cluster.accept_unsigned` is on, which is for the exchange of keys only. A client is replaced when a message broke it.",
                      {"unsigned": rate("holdfast_bus_unsigned_total"), "clients replaced": rate("holdfast_bus_clients_replaced_total")}, unit="cps", links=[runbook("HoldfastBusClientsReplaced", "backends")]),
                graph("Nodes seen", "By each node. All lines lie on each other, or nodes don't share a state.", {"{{instance}}": "max by (instance) (holdfast_nodes{@})"}, links=[runbook("HoldfastNodesDisagree", "nodes")]),
            ),
        ],
    )


def node():
    own = {"links": [runbook("HoldfastLimitNear", "clients")]}
    return dashboard(
        "node",
        "One node",
        """One process from all sides: what it is doing, what it uses, and what it waits for.""",
        [
            row(
                "State",
                states("Phase", "From its start to its end. `leaving`: told to end, still serving. Long in `draining`: something does not end.", {"{{instance}}": PHASE}, PHASES, links=[runbook("HoldfastDrainLong", "nodes")]),
                stat("Ready", "What /readyz says.", "min(holdfast_ready{@})",
                     defaults={"thresholds": {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]}}, height=7, links=[runbook("HoldfastNodeNotReady", "nodes")]),
                stat("Up for", "Since the process started. Short and short again: it restarts.", "time() - min(process_start_time_seconds{@})", unit="s", height=7, links=[runbook("HoldfastRestarting", "nodes")]),
                stat("Version", "Other nodes' versions differ during a rollout only.", {"{{version}}": "max by (version) (holdfast_build_info{@})"}, height=7,
                     options={"textMode": "name", "reduceOptions": {"calcs": ["lastNotNull"]}}, links=[runbook("HoldfastVersionsMixed", "nodes")]),
            ),
            row(
                "Process",
                graph("Processor", "Processors in use. At its limit everything is late; add nodes.", {"{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total{@}[~]))"}, unit="short"),
                graph("Memory", "Resident. It follows streams and sessions; if it does not come down after them, ask why.", {"resident": "sum(process_resident_memory_bytes{@})"}, unit="bytes"),
                graph("File descriptors", "Each connection takes one, each stream over HTTP/1.1 as well.", {"open": "sum(process_open_fds{@})", "allowed": "sum(process_max_fds{@})"}, links=[runbook("HoldfastDescriptorsNear", "nodes")]),
                graph("Threads", "As many as processors, and some for files.", {"threads": "sum(process_threads{@})"}),
                graph("Lease age", "Since it renewed its lease; others take it for dead after `cluster.lease`.", {"age": "max(holdfast_lease_age_seconds{@})"}, unit="s", links=[runbook("HoldfastLeaseOld", "nodes")]),
                graph("Deaths and takeovers", "Of other nodes, as seen from here.", {"found dead": "sum(holdfast_node_deaths_total{@})", "requests taken over": "sum(holdfast_takeovers_total{@})"}, links=[runbook("HoldfastNodeDied", "nodes")]),
            ),
            row(
                "Work",
                graph("Connections and streams", "Open now; each stream over HTTP/1.1 has a connection of its own.", {"connections": "sum(holdfast_connections{@})", "streams": "sum(holdfast_streams{@})"}),
                graph("Requests", "What became of those that ended here.", {"{{outcome}}": rate("holdfast_exchanges_ended_total", by="outcome")}, unit="reqps", stacked=True),
                graph("Requests running", "Asked and not answered.", {"requests": "sum(holdfast_exchanges{@})", "relays": "sum(holdfast_relays{@})"}),
                graph("Events", "Appended, delivered and replayed here.", {"appended": rate("holdfast_events_appended_total"), "delivered": rate("holdfast_events_delivered_total"), "replayed": rate("holdfast_events_replayed_total")}, unit="eps"),
                graph("Redis and NATS", "99th percentile of this node's steps: its way alone is bad if others' are well.", {"Redis p99": quantile(0.99, STORE_SECONDS), "NATS p99": quantile(0.99, BUS_SECONDS, '@,operation!="relay"')}, unit="s",
                      links=[board("backends", "Redis and NATS")]),
                graph("Refused", "HTTP requests, by what for.", REFUSED_BY_KIND, unit="reqps", links=[runbook("HoldfastRequestsRefused", "clients")]),
            ),
            row(
                "Queues and limits",
                graph("Queues", "What waits for its turn.", {"{{queue}}": "sum by (queue) (holdfast_queue_length{@})"}, links=[runbook("HoldfastInboxFilling", "backends")]),
                graph("Limits used", "Every limit that has a use.", {"{{limit}}": LIMITS_USED}, unit="percentunit", steps={0.8: "red"}, **own),
                graph("Limits hit", "How often each was met.", {"{{limit}}": f"topk(10, {rate('holdfast_limit_hits_total', by='limit')})"}, unit="cps", links=[runbook("HoldfastLimitHit", "clients")]),
                table("Limits as they are set", "In the unit of each key of the configuration.", "max by (limit) (holdfast_limit{@})"),
                graph("Principals", "Whose use of a limit is remembered.", {"principals": "sum(holdfast_principals{@})"}, width=12),
                graph("Spans", "What became of them on their way to the collector; none where nothing is traced.", {"{{outcome}}": rate("holdfast_spans_total", by="outcome")}, unit="ops", width=12),
            ),
        ],
        one_node=True,
    )


def main(check):
    stale = []
    for board_ in [overview(), sessions(), delivery(), upstreams(), backends(), node()]:
        file = FOLDER / f"{board_['uid'].removeprefix('holdfast-')}.json"
        text = json.dumps(board_, indent=1) + "\n"
        if check and (not file.exists() or file.read_text() != text):
            stale.append(file.name)
        elif not check:
            file.write_text(text)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what dashboards.py says; run it")


if __name__ == "__main__":
    main(sys.argv[1:] == ["--check"])
