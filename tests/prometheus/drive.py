"""Holds deploy/prometheus and deploy/grafana against a real Prometheus that scrapes a running `hufu sandbox`.

The rules are those of deploy/prometheus, but for two alerts that would make this wait for minutes: HURRIED, whose
`for` is 1 s here (how long they really wait is promtool's to test). Scraped and evaluated every second instead of
every ten.

usage: drive.py HUFU FOLDER_OF_PROMETHEUS FOLDER
"""

import concurrent.futures
import json
import math
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
SPEED = "20"
# Nothing here takes this long; what is not there by then is missing.
PATIENCE_S = 40
HURRIED = ["HufuWalletDown", "HufuDown"]
# Panels that are empty while all is well: this sandbox speaks plain HTTP to its tills.
EMPTY_PANELS = ["Certificate for tills"]
ROWS = ["Overview", "Pending and passwords", "Wallet", "Store", "Tills"]
# What a scrape may be (metrics.md).
SERIES_MAX, BODY_MAX = 700, 200 * 1024
AMOUNT_FEN = 1288
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'

passed = 0


def ok(what):
    """Says that something holds."""
    global passed
    passed += 1
    print(f"  ok     {what}", flush=True)


def until(what, check):
    """Repeats `check` until it returns something, and returns that; its last complaint otherwise."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = check()
            if found:
                return found
            why = "nothing"
        except (AssertionError, urllib.error.URLError, ConnectionError) as err:
            why = err
        assert time.monotonic() < deadline, f"{what}: {why} after {PATIENCE_S} s"
        time.sleep(0.2)


def fetch(url, key=None, body=None, prefer=None):
    """Status and body."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if prefer:
        headers["Prefer"] = prefer
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body).encode()
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        return err.code, err.read()


class Prometheus:
    """A Prometheus of our own, in a folder of its own."""

    def __init__(self, binary, folder, target):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("hufu.recording.yml", "hufu.alerts.yml"):
            text = (RULES / name).read_text()
            for alert in HURRIED:
                text = re.sub(rf"(- alert: {alert}\n(?:(?! *- alert:).*\n)*? +for: )\S+", r"\g<1>1s", text)
            (folder / name).write_text(text)
        text = (RULES / "prometheus.yml").read_text()
        text = text.replace("127.0.0.1:9464", target)
        for name in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
            text = re.sub(rf"{name}: \d+s", f"{name}: 1s", text)
        (folder / "prometheus.yml").write_text(text)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            [binary, "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data",
             "--web.listen-address", self.address, "--log.level", "warn"],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def get(self, path, **query):
        """The data of an answer of its API."""
        status, body = fetch(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", f"{query}: {answer.get('error')}"
        return answer["data"]

    def values(self, query):
        """The present values of a query."""
        return [float(one["value"][1]) for one in self.get("query", query=query)["result"]]

    def firing(self):
        """The names of the alerts that fire."""
        return {one["metric"]["alertname"] for one in self.get("query", query=FIRING)["result"]}

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Sandbox:
    """A wallet in a process of its own, so that it can be taken away, and the switch."""

    def __init__(self, hufu, speed=SPEED, data=None):
        self.processes = []
        wallet = self.start([hufu, "simulate", "--listen", "127.0.0.1:0", "--speed", speed, "--json"])
        pki = pathlib.Path(wallet["ca_file"]).parent
        kept = ["--data", str(data)] if data else []
        ready = self.start([hufu, "sandbox", "--listen", "127.0.0.1:0", "--speed", speed, "--json", *kept,
                            "--wallet", wallet["wallet_tls"], "--pki-dir", str(pki)])  # fmt: skip
        self.gateway, self.admin = ready["gateway"], ready["admin"]
        self.keys = [one["api_key"] for one in ready["merchants"]]
        self.count = 0

    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.processes.append(process)
        line = process.stdout.readline()
        assert line, f"{command} has ended"
        return json.loads(line)

    def pay(self, customer, wait=20):
        """One payment of a customer; the answer."""
        self.count += 1
        number = self.count
        order = {"out_trade_no": f"PROM{number:08}", "auth_code": f"10{number:06}{number:06}{customer}",
                 "amount_fen": AMOUNT_FEN, "body": "tea"}  # fmt: skip
        key = self.keys[number % len(self.keys)]
        status, body = fetch(f"{self.gateway}/v1/payments", key, order, f"wait={wait}")
        return order["out_trade_no"], key, status, json.loads(body)

    def crowd(self, customers, wait=20):
        """Many payments, eight at a time."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda customer: self.pay(customer, wait), customers))

    def end(self, place):
        self.processes[place].kill()
        self.processes[place].wait()

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait(60)


def alerts_of(promtool_rules):
    """Each alert of the shipped rules: name and its text."""
    text = promtool_rules.read_text()
    return {m[1]: m[0] for m in re.finditer(r"- alert: (\w+)\n(?:(?! *- (?:alert|name):).*\n)+", text)}


def check_files(promtool, hufu):
    """What can be said without a Prometheus."""
    for command in (["check", "config", RULES / "prometheus.yml"], ["test", "rules", RULES / "tests/hufu.test.yml"]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"promtool {command}: {done.stdout}{done.stderr}"
        ok(f"promtool {command[0]} {command[1]}: {command[2].name}")
    alerts = alerts_of(RULES / "hufu.alerts.yml")
    tested = set(re.findall(r'alertname="(\w+)"', (RULES / "tests/hufu.test.yml").read_text()))
    assert set(alerts) == tested, f"not fired by any test, or no alert: {set(alerts) ^ tested}"
    readme = (RULES / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in alerts), "the README has a line for each alert"
    ok(f"each of {len(alerts)} alerts fires in a test of the rules, and is in the README")
    helps = {}
    for name, text in alerts.items():
        words = " ".join(text.split())
        assert "summary:" in words and " Money: " in words and " Do: " in words, f"{name} does not say what to do"
        for command in re.findall(r"`(hufu [^`]+)`", words):
            tokens = command.split()
            verb = [token for token in tokens[1:3] if re.fullmatch(r"[a-z][a-z-]*", token)]
            if tuple(verb) not in helps:
                done = subprocess.run([hufu, *verb, "--help"], capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{name}: there is no {command}"
                helps[tuple(verb)] = done.stdout
            for flag in re.findall(r"--[a-z-]+", command):
                assert flag in helps[tuple(verb)], f"{name}: {command} has no {flag}"
    ok(f"{len(helps)} hufu commands that alerts name are there, with the flags they name")


def check_dashboard():
    """The dashboard is what make.py prints, and one that Grafana can load. Returns (panel, query)."""
    text = (GRAFANA / "hufu.json").read_text()
    made = subprocess.run([sys.executable, GRAFANA / "make.py"], capture_output=True, text=True, check=True).stdout
    assert text == made, "deploy/grafana/hufu.json is not what make.py prints"
    board = json.loads(text)
    panels = board["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids) and all(isinstance(one, int) and one > 0 for one in ids), "ids are unique"
    assert board["uid"] and board["title"] and board["schemaVersion"] >= 36 and "id" not in board, "it can be imported"
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    assert [one["title"] for one in panels if one["type"] == "row"] == ROWS
    queries, taken = [], set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat") and panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", f"{panel['title']} is bound to one installation"
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            unknown = set(re.findall(r"\$\{?(\w+)", target["expr"])) - set(variables)
            assert not unknown, f"{panel['title']}: no variable {unknown}"
            queries.append((panel["title"], target["expr"].replace("$instance", ".*")))
    ok(f"the dashboard has {len(ROWS)} rows and {len(ids) - len(ROWS)} panels, and is bound to no installation")
    return queries


def has_data(prometheus, query):
    """Whether a query returns a number."""
    return any(not math.isnan(value) for value in prometheus.values(query))


def selectors(expression):
    """The series that an expression is about."""
    return set(re.findall(r"(?:\b(?:hufu[:_]|process_|up\b)[\w:]*)(?:\{[^}]*\})?", expression))


def all_have_data(prometheus, queries, what):
    """Waits until every query has returned data."""
    missing = dict(queries)

    def look():
        for name, query in list(missing.items()):
            if has_data(prometheus, query):
                del missing[name]
        assert not missing, f"no data for {missing}"
        return True

    until(what, look)
    ok(f"{what}: {len(queries)} return data")


def traffic(sandbox):
    """Something of everything that a healthy day has, and what the scrape comes to."""
    customers = ["0000"] * 60 + ["0108"] * 20 + ["0500"] * 4 + ["0320"] * 4 + ["0200"] * 4
    answers = sandbox.crowd(customers)
    states = [body.get("state") for *_, body in answers]
    assert states.count("paid") == 80, f"80 of these customers pay: {states}"
    number, key, *_ = answers[0]
    assert fetch(f"{sandbox.gateway}/v1/payments/{number}", key)[0] == 200
    assert fetch(f"{sandbox.gateway}/v1/payments/{number}/reversal", key, {}, "wait=20")[0] == 200
    assert fetch(f"{sandbox.gateway}/v1/payments", key)[0] == 200
    assert fetch(f"{sandbox.gateway}/v1/payments/{number}", "hufu_sk_" + "0" * 40)[0] == 401
    _, body = fetch(f"{sandbox.admin}/metrics")
    series = [line for line in body.decode().splitlines() if line and not line.startswith("#")]
    assert len(series) <= SERIES_MAX and len(body) <= BODY_MAX, f"{len(series)} series, {len(body)} bytes"
    ok(f"{len(answers)} payments; a scrape has {len(series)} series in {len(body)} bytes")
    return number


def check_running(prometheus, sandbox, queries):
    """A healthy switch: every query answers, no alert fires."""
    until("the sandbox is scraped", lambda: prometheus.values('up{job="hufu"}') == [1.0])
    number = traffic(sandbox)
    until("payments are seen", lambda: prometheus.values('sum(hufu_payments_total{outcome="paid"})') >= [80.0])
    ok("Prometheus has what tills were told: payments paid")
    text = json.dumps(prometheus.get("label/__name__/values")) + json.dumps(prometheus.get("labels"))
    assert number not in text and "merchant" not in text and "mch_id" not in text
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    recorded = [(rule["name"], rule["name"]) for rule in rules if rule["type"] == "recording"]
    all_have_data(prometheus, recorded, "recording rules")
    of_alerts = {name: name for rule in rules if rule["type"] == "alerting" for name in selectors(rule["query"])}
    all_have_data(prometheus, list(of_alerts.items()), "series that alerts look at")
    shown = [(f"{title}: {query}", query) for title, query in queries if title not in EMPTY_PANELS]
    all_have_data(prometheus, shown, "queries of the dashboard")
    for title, query in queries:
        if title in EMPTY_PANELS:
            assert prometheus.values(query) == [], f"{title} is not empty any more"
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    bad = {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"}
    assert not bad, f"rules that cannot be evaluated: {bad}"
    firing = prometheus.firing()
    assert not firing, f"nothing is wrong, and {firing} fires"
    ok(f"all is well: none of {len(rules) - len(recorded)} alerts fires")


def check_alerts(prometheus, sandbox):
    """What goes wrong is told."""
    _, _, _, held = sandbox.pay("3000", wait=1)  # The wallet names another amount (faults-and-invariants, B5).
    assert held["state"] in ("processing", "awaiting_password"), f"held money is told as no outcome: {held}"
    until("a held payment fires", lambda: "HufuPaymentHeld" in prometheus.firing())
    at_risk = prometheus.values('sum(hufu_money_at_risk_by_age_fen{stage="held"})')
    assert at_risk == [AMOUNT_FEN], at_risk
    alert = next(one for one in prometheus.get("alerts")["alerts"] if one["labels"]["alertname"] == "HufuPaymentHeld")
    told = alert["annotations"]
    assert told["summary"].startswith("1 payments are held") and "hufu payment list --which held" in told["description"]
    assert alert["labels"]["severity"] == "critical"
    ok("an order that is held fires HufuPaymentHeld (as shipped), with its sum, and says what to do")
    sandbox.end(0)

    def more():
        # Until they are many more than the calls that were answered in the minute that the rule looks at.
        sandbox.crowd(["0000"] * 500, wait=0)
        return "HufuWalletDown" in prometheus.firing()

    until("a wallet that is gone fires", more)
    ok("a wallet that is killed fires HufuWalletDown (its wait shortened)")
    sandbox.end(1)
    until("a switch that is gone fires", lambda: "HufuDown" in prometheus.firing())
    ok("a switch that is killed fires HufuDown (its wait shortened)")


def main():
    hufu, binaries, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    check_files(binaries / "promtool", hufu)
    queries = check_dashboard()
    sandbox = Sandbox(hufu)
    try:
        target = urllib.parse.urlsplit(sandbox.admin).netloc
        prometheus = Prometheus(binaries / "prometheus", (folder / "run").resolve(), target)
        try:
            check_running(prometheus, sandbox, queries)
            check_alerts(prometheus, sandbox)
        finally:
            prometheus.close()
    finally:
        sandbox.close()
    print(f"prometheus: {passed} passed, 0 failed")


if __name__ == "__main__":
    main()
