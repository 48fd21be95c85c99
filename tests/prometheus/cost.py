#!/usr/bin/env python3
"""What a scrape costs the switch at 50,000 merchants and 50,000 pending payments: time, bytes and processor time.

A simulated wallet, `hufu serve`, a merchant for each payment, and customers who never answer. Prints one line of JSON
for the empty switch and one for the full one; the figures stand in deploy/prometheus/README.md.

usage: cost.py HUFU [MERCHANTS]
"""

import concurrent.futures
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from drive import Sandbox, fetch

SCRAPES = 300
# Nobody is asked about, and nobody is given up, while this measures.
CLOCKS = "first_query_ms = 900000\ngive_up_ms = 1800000\n"
QUOTA = "pay_per_second = 100000\nquery_per_second = 100000\nreverse_per_second = 100000\ncalls_max = 20000\n"


def scrape(admin):
    """Latencies in milliseconds, bytes, and processor time of a scrape, as Prometheus asks: one connection."""
    line = http.client.HTTPConnection(urllib.parse.urlsplit(admin).netloc)

    def one():
        start = time.perf_counter()
        line.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
        body = line.getresponse().read().decode()
        return (time.perf_counter() - start) * 1000, body

    def cpu(body):
        return float(re.search(r"^process_cpu_seconds_total (\S+)", body, re.M)[1])

    def value(body, name):
        return float(re.search(rf"^{name} (\S+)", body, re.M)[1])

    one()
    runs = [one() for _ in range(SCRAPES)]
    took = sorted(ms for ms, _ in runs)
    first, last = runs[0][1], runs[-1][1]
    return {
        "pending": value(last, "hufu_pending_payments"),
        "body_bytes": len(last),
        "series": sum(1 for text in last.splitlines() if text and not text.startswith("#")),
        "scrape_ms_p50": round(took[len(took) // 2], 2),
        "scrape_ms_p99": round(took[len(took) * 99 // 100], 2),
        "scrape_ms_max": round(took[-1], 2),
        "cpu_ms_per_scrape": round((cpu(last) - cpu(first)) * 1000 / (SCRAPES - 1), 2),
    }


def merchants(count, path):
    """A file for `hufu merchant import`, and the keys."""
    keys = [f"hufu_sk_{number:040}" for number in range(count)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("mch_id,appid,upstream_sub_mch_id,signing_key,api_key\n")
        for number, key in enumerate(keys):
            file.write(f"{1_700_000_000 + number},wx{number:016},{1_600_000_000 + number},{number:032},{key}\n")
    return keys


def main():
    hufu, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        sandbox = Sandbox(hufu, speed="1", data=folder / "data")
        try:
            # The sandbox's own settings, with wide quotas and slow clocks, for a switch of their own.
            config = folder / "data" / "hufu.toml"
            sandbox.end(1)
            text = config.read_text()
            text = re.sub(r"\[provider\.quota\]\n(?:\w+ = .*\n)*", f"[provider.quota]\n{QUOTA}", text)
            text = re.sub(r"(first_query_ms|give_up_ms) = .*\n", "", text)
            text = re.sub(r"\[policy\]\n", f"[policy]\n{CLOCKS}", text)
            for name, url in (("gateway", sandbox.gateway), ("admin", sandbox.admin)):
                text = re.sub(rf"^{name} = .*$", f'{name} = "{urllib.parse.urlsplit(url).netloc}"', text, flags=re.M)
            config.write_text(text)
            keys = merchants(count, folder / "merchants.csv")
            subprocess.run(
                [hufu, "merchant", "import", str(folder / "merchants.csv"), "--config", str(config)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            switch = subprocess.Popen([hufu, "serve", "--config", str(config)], stderr=subprocess.DEVNULL)
            sandbox.processes[1] = switch
            while True:
                try:
                    if fetch(f"{sandbox.admin}/readyz")[0] == 200:
                        break
                except OSError:
                    assert switch.poll() is None, "hufu serve has ended"
                time.sleep(0.1)
            print(json.dumps({"merchants": count, **scrape(sandbox.admin)}), flush=True)
            place = urllib.parse.urlsplit(sandbox.gateway).netloc
            local = threading.local()

            def pay(number):
                """One payment whose customer never answers."""
                if not hasattr(local, "line"):
                    local.line = http.client.HTTPConnection(place, timeout=60)
                order = {"out_trade_no": f"COST{number:08}", "auth_code": f"10{number:06}{number:06}0200",
                         "amount_fen": 1288, "body": "tea"}  # fmt: skip
                headers = {"Authorization": f"Bearer {keys[number]}", "Content-Type": "application/json",
                           "Prefer": "wait=0"}  # fmt: skip
                local.line.request("POST", "/v1/payments", json.dumps(order), headers)
                answer = local.line.getresponse()
                return answer.status, answer.read()

            with concurrent.futures.ThreadPoolExecutor(64) as pool:
                bad = [answer for answer in pool.map(pay, range(count)) if answer[0] != 202]
            assert not bad, f"{len(bad)} were not taken: {bad[:3]}"
            print(json.dumps({"merchants": count, **scrape(sandbox.admin)}), flush=True)
        finally:
            sandbox.close()


if __name__ == "__main__":
    main()
