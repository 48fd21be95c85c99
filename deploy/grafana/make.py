#!/usr/bin/env python3
"""Writes hufu.json, the dashboard: `deploy/grafana/make.py > deploy/grafana/hufu.json`.

A panel is a line here and thirty in JSON. `tests/prometheus/run` holds hufu.json against what this prints, and asks a
running Prometheus every query of it.
"""

import json
import sys

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
I = 'instance=~"$instance"'
WIDTH = 24

# Title, what it shows, unit, [(query, legend)], kind and width, and thresholds for single values.
STAT, LINES, STACK = "stat", "lines", "stack"


def p(title, about, unit, queries, kind=LINES, width=8, warn=None, bad=None):
    return {"title": title, "about": about, "unit": unit, "queries": queries, "kind": kind, "width": width,
            "warn": warn, "bad": bad}  # fmt: skip


ROWS = [
    ("Overview", [
        p("Up", "Whether Prometheus reads the switch.", "none", [(f'min(up{{job="hufu",{I}}})', "up")], STAT, 3, bad=-1),
        p("Money at risk", "Undecided, held, or being reversed and not proven so. Rises with customers at their passwords; what matters is its age.", "fen", [(f"sum(hufu_money_at_risk_fen{{{I}}})", "fen")], STAT, 5, warn=5e6, bad=5e7),
        p("Pending payments", "Not decided yet.", "none", [(f"sum(hufu_pending_payments{{{I}}})", "pending")], STAT, 4),
        p("Overdue", "Undecided past the moment at which each must be decided: 0, always.", "none", [(f"sum(hufu_overdue_payments{{{I}}})", "overdue")], STAT, 4, bad=1),
        p("Held", "Wait for a person: hufu payment list --which held.", "none", [(f'sum(hufu_open_payments{{stage="held",{I}}})', "held")], STAT, 4, bad=1),
        p("Alerts firing", "Of hufu's rules.", "none", [('count(ALERTS{alertstate="firing",alertname=~"Hufu.+"}) or vector(0)', "alerts")], STAT, 4, bad=1),
        p("Payments by outcome", "Decided a second. reversing: given up; reversed: proven so.", "ops", [(f"sum by (outcome) (hufu:payments:rate5m{{{I}}})", "{{outcome}}")], STACK),
        p("Money at risk by age", "Since acceptance. What is older than ten minutes is being worked on by reversals or by people.", "fen", [(f"sum by (age) (hufu_money_at_risk_by_age_fen{{{I}}})", "{{age}}")], STACK),
        p("Alarms", "In a quarter of an hour, by what the decision table calls for.", "none", [(f"sum by (outcome) (increase(hufu_alarms_total{{{I}}}[15m]))", "{{outcome}}")]),
        p("Processor", "Cores in use.", "none", [(f'rate(process_cpu_seconds_total{{job="hufu",{I}}}[5m])', "{{instance}}")]),
        p("Memory", "Resident; about 1 KiB for each pending payment.", "bytes", [(f'process_resident_memory_bytes{{job="hufu",{I}}}', "{{instance}}")]),
        p("Uptime, version", "Since the last start.", "s", [(f'time() - process_start_time_seconds{{job="hufu",{I}}} + on (instance) group_left (version) (0 * hufu_build_info)', "{{instance}} {{version}}")], STAT),
    ]),
    ("Pending and passwords", [
        p("Open payments by stage", "undecided: the customer or the wallet; held: a person; reversing: being given back.", "none", [(f"sum by (stage) (hufu_open_payments{{{I}}})", "{{stage}}")], STACK),
        p("Oldest open payment", "By stage. Undecided ends at a minute.", "s", [(f"max by (stage) (hufu_oldest_open_seconds{{{I}}})", "{{stage}}")]),
        p("Open payments by age", "Since acceptance.", "none", [(f"sum by (age) (hufu_open_payments{{{I}}})", "{{age}}")], STACK),
        p("Detection delay", "From the customer's last key to our knowing (wallet's clock, 1 s resolution).", "s", [(f"hufu:detection_delay_seconds:p50_5m{{{I}}}", "p50"), (f"hufu:detection_delay_seconds:p95_5m{{{I}}}", "p95")]),
        p("Queries per payment", "Asked until it was decided: mean.", "none", [(f"sum(rate(hufu_queries_per_payment_sum{{{I}}}[5m])) / sum(rate(hufu_queries_per_payment_count[5m]))", "mean")]),
        p("Overdue money", "0, always.", "fen", [(f"hufu_overdue_fen{{{I}}}", "{{instance}}")]),
        p("Paid while no till asked", "In an hour: kept, or given back, as the merchant has set.", "none", [(f"sum by (outcome) (increase(hufu_absent_tills_total{{{I}}}[1h]))", "{{outcome}}")]),
        p("Query budget in use", "Of the last second. At 100 % more payments wait for their turn.", "percentunit", [(f"hufu_query_budget_ratio{{{I}}}", "{{instance}}")]),
        p("Query budget and what waits", "Queries that a second allows now (halved when the wallet complains), and calls that wait for room.", "none", [(f"hufu_query_budget_per_second{{{I}}}", "allowed"), (f"hufu_calls_waiting{{{I}}}", "waiting")]),
    ]),
    ("Wallet", [
        p("Calls by operation", "A second.", "ops", [(f"sum by (operation) (hufu:upstream_requests:rate5m{{{I}}})", "{{operation}}")], STACK),
        p("Calls by outcome", "verified: usable. unverified: not signed by the wallet. lost: no answer. unsent: not a byte left.", "ops", [(f"sum by (outcome) (hufu:upstream_requests:rate5m{{{I}}})", "{{outcome}}")], STACK),
        p("Errors", "Calls without a verified answer, of all.", "percentunit", [(f"hufu:upstream_errors:ratio5m{{{I}}}", "{{operation}}")]),
        p("Time of a call, p99", "By operation.", "s", [(f"hufu:upstream_request_seconds:p99_5m{{{I}}}", "{{operation}}")]),
        p("Too often", "Answers a second that say so.", "ops", [(f"sum by (operation) (rate(hufu_upstream_throttled_total{{{I}}}[5m]))", "{{operation}}")]),
        p("Reversal calls", "A second, repetitions included.", "ops", [(f"sum by (channel) (rate(hufu_reversals_total{{{I}}}[5m]))", "{{channel}}")]),
        p("Certificate for the wallet", "Until the first one ends. Without it nothing can be reversed.", "s", [(f"(hufu_wallet_certificate_end_timestamp_seconds{{{I}}} > 0) - time()", "{{instance}}")], STAT),
    ]),
    ("Store", [
        p("Durable commit, p99", "Every payment waits for two.", "s", [(f"hufu:store_commit_seconds:p99_5m{{{I}}}", "{{instance}}")]),
        p("Commits", "A second, and records in each.", "none", [(f"rate(hufu_store_commit_seconds_count{{{I}}}[5m])", "commits/s"), (f"rate(hufu_store_batch_records_sum{{{I}}}[5m]) / rate(hufu_store_batch_records_count{{{I}}}[5m])", "records each")]),
        p("Takes no records", "1: full or broken disk.", "none", [(f"max(hufu_store_stalled{{{I}}})", "stalled")], STAT, bad=1),
        p("Timers late, p99", "The processor is not to be had.", "s", [(f"hufu:timer_lag_seconds:p99_5m{{{I}}}", "{{instance}}")]),
        p("Queue of the shards", "Of what may wait; more is refused.", "percentunit", [(f"hufu:shard_queue:ratio{{{I}}}", "fullest"), (f"hufu_shard_queue_depth{{{I}}} / on (instance) group_left hufu_shard_queue_max", "{{shard}}")]),
        p("Payments in memory", "Of what may be there; ended ones stay for a minute.", "percentunit", [(f"hufu:orders:ratio{{{I}}}", "{{instance}}")]),
    ]),
    ("Tills", [
        p("Requests", "A second, by what is asked for.", "ops", [(f"sum by (operation) (hufu:requests:rate5m{{{I}}})", "{{operation}}")], STACK),
        p("Time to answer, p99", "What tills are made to wait included (northbound.hold_ms, long_poll_ms).", "s", [(f"hufu:request_seconds:p99_5m{{{I}}}", "{{operation}}")]),
        p("From knowing to the till, p99", "Tills that wait are told at once; others when they ask again.", "s", [(f"hufu:told_delay_seconds:p99_5m{{{I}}}", "{{instance}}")]),
        p("Refusals", "A second, by cause. Nothing was sent for any of them.", "ops", [(f"sum by (outcome) (hufu:refusals:rate5m{{{I}}}) > 0 or sum by (outcome) (hufu:refusals:rate5m{{{I}}})", "{{outcome}}")], STACK),
        p("Connections", "Of what may be open.", "percentunit", [(f"hufu:connections:ratio{{{I}}}", "{{instance}}")]),
        p("Certificate for tills", "Until it ends; nothing without TLS.", "s", [(f"(hufu_tls_certificate_end_timestamp_seconds{{{I}}} > 0) - time()", "{{instance}}")], STAT),
    ]),
]  # fmt: skip


def panel(number, place, spec):
    thresholds = [{"color": "green", "value": None}]
    thresholds += [{"color": "orange", "value": spec["warn"]}] if spec["warn"] is not None else []
    thresholds += [{"color": "red", "value": spec["bad"]}] if spec["bad"] is not None and spec["bad"] >= 0 else []
    if spec["bad"] == -1:  # Low is bad.
        thresholds = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    is_stat = spec["kind"] == STAT
    # Money is in fen; Grafana shows whole numbers of it.
    unit = {"fen": "locale"}.get(spec["unit"], spec["unit"])
    title = spec["title"] + (" (fen)" if spec["unit"] == "fen" else "")
    custom = {"drawStyle": "line", "fillOpacity": 10, "showPoints": "never",
              "stacking": {"mode": "normal" if spec["kind"] == STACK else "none", "group": "A"}}  # fmt: skip
    return {
        "id": number,
        "type": "stat" if is_stat else "timeseries",
        "title": title,
        "description": spec["about"],
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": thresholds},
                "custom": {} if is_stat else custom,
            },
            "overrides": [],
        },
        "options": {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
        if is_stat
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "datasource": DATASOURCE}
            for place, (query, legend) in enumerate(spec["queries"])
        ],
    }


def dashboard():
    panels, number, y = [], 1, 0
    for title, specs in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})  # fmt: skip
        number, y, x, height = number + 1, y + 1, 0, 0
        for spec in specs:
            if x + spec["width"] > WIDTH:
                x, y = 0, y + height
                height = 0
            tall = 4 if spec["kind"] == STAT and spec["width"] < 8 else 7
            panels.append(panel(number, {"x": x, "y": y, "w": spec["width"], "h": tall}, spec))
            number, x, height = number + 1, x + spec["width"], max(height, tall)
        y += height
    variable = {"hide": 0, "includeAll": False, "multi": False, "options": [], "skipUrlSync": False}
    return {
        "uid": "hufu-switch",
        "title": "Hufu",
        "description": "The switch: money at risk, pending payments, wallet, store, tills.",
        "tags": ["hufu"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "timezone": "",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {**variable, "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
                 "refresh": 1, "current": {}},
                {**variable, "name": "instance", "label": "Switch", "type": "query", "datasource": DATASOURCE,
                 "definition": "label_values(hufu_build_info, instance)",
                 "query": {"query": "label_values(hufu_build_info, instance)", "refId": "A"},
                 "refresh": 2, "sort": 1, "includeAll": True, "allValue": ".*", "multi": True,
                 "current": {"text": "All", "value": "$__all"}},
            ]
        },
        "panels": panels,
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1, ensure_ascii=False)
    print()
