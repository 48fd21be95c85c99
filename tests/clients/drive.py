"""Drives `hufu sandbox` with published clients of the WeChat Pay V2 API that nobody here wrote.

Every client runs in a process of its own (till_*.py, till_*.js) that takes `{"op", "fields"}` a line and answers
`{"fields", "verified", "raised"?}` or `{"lost": true}`. `verified` is the client's own check of the signature. The
cases are the same for all of them; each merchant uses the same numbers. At the end the wallet's ledger is compared
with what the tills were told.

usage: drive.py HUFU
"""

import json
import pathlib
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request

from cutter import Cutter

HERE = pathlib.Path(__file__).parent
# Customers, wallet and the switch's policy clocks run faster; sockets do not.
SPEED = "20"
# A till gives up long after anything here has ended.
PATIENCE_S = 60
# Between two questions of a till: the documents' 5 s, as fast as everything else.
PAUSE_S = 5 / int(SPEED)
AMOUNT_FEN = 1288
# What the wallet's XML may do to a text, and a client's: entities, CDATA, blanks at the ends, four bytes of UTF-8.
ODD_TEXT = " 乌龙茶 🍵 & 'tea' <2 \"cups\"> &amp; ]] 50% a=b "
# Answers have no blanks at the ends: clients that trim could not verify them.
ODD_TEXT_TOLD = ODD_TEXT.strip()

# Client, how it signs, which of the sandbox's merchants it is, and what its numbers begin with: merchants use the same
# numbers. The third merchant names itself as a sub-merchant.
CLIENTS = [
    ("wechatpy", [sys.executable, "till_wechatpy.py"], "MD5", 0, "A"),
    ("tenpay", ["node", "till_tenpay.js"], "HMAC-SHA256", 1, "A"),
    ("wechatpay-axios-plugin", ["node", "till_axios.js"], "MD5", 2, "A"),
    ("wechatpay-axios-plugin", ["node", "till_axios.js"], "HMAC-SHA256", 0, "B"),
]


class Till:
    """One client in its process."""

    def __init__(self, command, place):
        self.command, self.place = command, place
        program = [*command[:-1], str(HERE / command[-1]), json.dumps(place)]
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, op, **fields):
        """One call of the client."""
        self.process.stdin.write(json.dumps({"op": op, "fields": fields}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

    def told(self, op, **fields):
        """The fields of an answer that must come and must be signed."""
        answer = self.ask(op, **fields)
        assert not answer.get("lost"), f"{op} was not answered"
        got = answer["fields"]
        assert answer["verified"] is True, f"the client rejects the signature of {got}"
        assert got["return_code"] == "SUCCESS", got
        for name in ("appid", "mch_id", "sub_mch_id"):
            assert got.get(name) == self.place.get(name), f"{name}: {got}"
        if got["result_code"] == "SUCCESS":
            assert not answer.get("raised"), f"the client rejects {got}: {answer['raised']}"
        else:
            assert got["err_code"] and got["err_code_des"], got
        return got

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait(timeout=PATIENCE_S)


class Case:
    """One payment of one till."""

    def __init__(self, till, number, auth_code):
        self.till, self.number = till, number
        self.pay_fields = {
            "body": ODD_TEXT,
            "attach": ODD_TEXT,
            "out_trade_no": self.number,
            "total_fee": AMOUNT_FEN,
            "auth_code": auth_code,
        }

    def pay(self, **changed):
        return self.till.told("micropay", **{**self.pay_fields, **changed})

    def query(self):
        return self.till.told("orderquery", out_trade_no=self.number)

    def reverse(self):
        return self.till.told("reverse", out_trade_no=self.number)

    def poll(self, *ends):
        """Asks as the documents tell tills to, until the state is one of `ends`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            got = self.query()
            assert got["result_code"] == "SUCCESS", got
            if got["trade_state"] in ends:
                return got
            assert got["trade_state"] in ("USERPAYING", "PAYERROR"), got
            assert time.monotonic() < deadline, f"still {got['trade_state']} after {PATIENCE_S} s"
            time.sleep(PAUSE_S)

    def reverse_until_done(self):
        """Repeats a reversal while it is answered `recall=Y`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            got = self.reverse()
            if got["result_code"] == "SUCCESS":
                assert got["recall"] == "N", got
                return
            assert (got["err_code"], got["recall"]) in (("SYSTEMERROR", "Y"), ("USERPAYING", "Y")), got
            assert time.monotonic() < deadline, f"not reversed after {PATIENCE_S} s"
            time.sleep(PAUSE_S)

    def is_paid(self, got):
        """Everything that a till reads of a payment."""
        assert got["result_code"] == "SUCCESS", got
        assert (got["out_trade_no"], got["total_fee"]) == (self.number, str(AMOUNT_FEN)), got
        assert got["attach"] == ODD_TEXT_TOLD, got
        assert got["trade_type"] == "MICROPAY" and got["openid"] and got["bank_type"], got
        assert len(got["transaction_id"]) <= 32 and len(got["time_end"]) == 14, got
        return got["transaction_id"]


def refused(got, code):
    assert (got["result_code"], got.get("err_code")) == ("FAIL", code), got


# Each case has its customer's number (hufu simulate --help), and returns what the ledger must show: charged and given
# back, in fen; `None` where the wallet must never have seen the number.
CASES = []


def customer(digits):
    """Makes a function a case."""

    def add(check):
        CASES.append((check, digits))
        return check

    return add


@customer("0000")
def paid(client, case):
    transaction_id = case.is_paid(case.pay())
    got = case.query()
    assert got["trade_state"] == "SUCCESS", got
    assert case.is_paid(got) == transaction_id
    by_other = case.till.told("orderquery", transaction_id=transaction_id)
    assert by_other["out_trade_no"] == case.number and by_other["trade_state"] == "SUCCESS", by_other
    refused(case.pay(), "ORDERPAID")
    refused(case.pay(total_fee=AMOUNT_FEN + 1), "OUT_TRADE_NO_USED")
    return AMOUNT_FEN, 0


@customer("0108")
def password(client, case):
    refused(case.pay(), "USERPAYING")
    case.is_paid(case.poll("SUCCESS"))
    refused(case.pay(), "ORDERPAID")
    return AMOUNT_FEN, 0


@customer("0500")
def no_money(client, case):
    refused(case.pay(), "NOTENOUGH")
    got = case.query()
    assert got["trade_state"] == "PAYERROR" and got["trade_state_desc"], got
    refused(case.pay(), "NOTENOUGH")
    return 0, 0


@customer("0406")
def wrong_password(client, case):
    refused(case.pay(), "USERPAYING")
    got = case.poll("PAYERROR", "REVOKED")
    assert "transaction_id" not in got, got
    return 0, 0


@customer("0200")
def reversed_open(client, case):
    refused(case.pay(), "USERPAYING")
    case.reverse_until_done()
    case.reverse_until_done()
    assert case.query()["trade_state"] == "REVOKED"
    refused(case.pay(), "ORDERREVERSED")
    return 0, 0


@customer("0000")
def reversed_paid(client, case):
    case.is_paid(case.pay())
    case.reverse_until_done()
    case.reverse_until_done()
    assert case.poll("REVOKED", "REFUND")["out_trade_no"] == case.number
    return AMOUNT_FEN, AMOUNT_FEN


@customer("0200")
def given_up(client, case):
    refused(case.pay(), "USERPAYING")
    case.poll("REVOKED")
    return 0, 0


@customer("0000")
def answer_lost(client, case):
    client.cutter.cut_next()
    assert case.till.ask("micropay", **case.pay_fields).get("lost"), "an answer came"
    refused(case.pay(), "ORDERPAID")
    case.is_paid(case.poll("SUCCESS"))
    return AMOUNT_FEN, 0


@customer("0108")
def answer_lost_password(client, case):
    client.cutter.cut_next()
    assert case.till.ask("micropay", **case.pay_fields).get("lost"), "an answer came"
    got = case.pay()
    assert got["result_code"] == "FAIL" and got["err_code"] in ("USERPAYING", "ORDERPAID"), got
    case.is_paid(case.poll("SUCCESS"))
    return AMOUNT_FEN, 0


@customer("1100")
def wallet_silent(client, case):
    got = case.pay()
    if got["result_code"] == "FAIL":
        refused(got, "USERPAYING")
    case.is_paid(case.poll("SUCCESS"))
    return AMOUNT_FEN, 0


@customer("0000")
def reversed_unseen(client, case):
    refused(case.query(), "ORDERNOTEXIST")
    case.reverse_until_done()
    refused(case.pay(), "ORDERREVERSED")
    return None


@customer("0000")
def wrong_key(client, case):
    for key in ("0" * 32, client.others_key):
        other = Till(case.till.command, {**case.till.place, "key": key})
        for op, fields in (
            ("micropay", case.pay_fields),
            ("orderquery", {"out_trade_no": case.number}),
            ("reverse", {"out_trade_no": case.number}),
        ):
            answer = other.ask(op, **fields)
            got = answer["fields"]
            assert got == {"return_code": "FAIL", "return_msg": "签名错误"}, got
            assert answer["raised"] and not answer["verified"], answer
        other.close()
    refused(case.query(), "ORDERNOTEXIST")
    return None


class Client:
    """One client, and every case with it, one after the other, as one till would."""

    def __init__(self, run, merchants, gateway):
        name, command, sign_type, merchant, self.prefix = run
        self.name = f"{name}, {sign_type}"
        at = urllib.parse.urlsplit(gateway)
        self.cutter = Cutter(at.hostname, at.port)
        self.merchant = merchants[merchant]
        self.others_key = merchants[merchant - 1]["key"]
        self.till = Till(command, {**self.merchant, "sign_type": sign_type, "base_url": self.cutter.url})
        self.done = []

    def go(self, first_payer):
        for place, (check, digits) in enumerate(CASES):
            number = f"{self.prefix}-{check.__name__.upper().replace('_', '-')}"
            case = Case(self.till, number, f"10{first_payer + place:06}{place:06}{digits}")
            try:
                expected, failed = check(self, case), None
            except Exception:  # It is told below; the other cases go on.
                expected, failed = None, traceback.format_exc()
            self.done.append((check.__name__, number, expected, failed))
        self.till.close()


def books(expected, line):
    """What is wrong with a line of the ledger; nothing if it is as it must be."""
    if expected is None:
        return None if line is None or line["pay_requests"] == 0 else f"the wallet was asked for money: {line}"
    if line is None:
        return "the wallet does not know it"
    found = (line["captured_fen"], line["returned_fen"])
    if found != expected or line["captures"] > 1 or line["pay_requests"] != 1 or line["violations"]:
        return f"charged and given back {found} instead of {expected}: {line}"
    return None


def judge(clients, wallet):
    """Prints each case; returns how many passed and failed."""
    with urllib.request.urlopen(f"{wallet}/sim/ledger") as answer:
        lines = [json.loads(line) for line in answer.read().decode().splitlines()]
    ledger = {(line["sub_mch_id"], line["out_trade_no"]): line for line in lines}
    passed, known = 0, set()
    total = len(clients) * len(CASES) + 1
    for client in clients:
        for name, number, expected, failed in client.done:
            key = (client.merchant["upstream_sub_mch_id"], number)
            known.add(key)
            why = failed or books(expected, ledger.get(key))
            print(f"  {'FAILED' if why else 'ok':6} {client.name}: {name}", flush=True)
            if why:
                print(f"{number}: {why}")
            passed += not why
    strange = [line for key, line in ledger.items() if key not in known]
    print(f"  {'FAILED' if strange else 'ok':6} the ledger holds nothing else{''.join(f': {one}' for one in strange)}")
    passed += not strange
    return passed, total - passed


def main():
    hufu = sys.argv[1]
    sandbox = subprocess.Popen(
        [hufu, "sandbox", "--listen", "127.0.0.1:0", "--speed", SPEED, "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(sandbox.stdout.readline())
        listed = subprocess.run(
            [hufu, "merchant", "list", "--config", ready["config"], "--json"], stdout=subprocess.PIPE, check=True
        )
        upstream = {
            (one["mch_id"], one["sub_mch_id"]): one["upstream_sub_mch_id"]
            for one in map(json.loads, listed.stdout.splitlines())
        }
        for one in ready["merchants"]:
            one["upstream_sub_mch_id"] = upstream[one["mch_id"], one.get("sub_mch_id")]
        clients = [Client(run, ready["merchants"], ready["gateway"]) for run in CLIENTS]
        threads = [
            threading.Thread(target=client.go, args=(place * 1000,)) for place, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed, failed = judge(clients, ready["wallet"])
    finally:
        sandbox.terminate()
        sandbox.wait()
    print(f"clients: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
