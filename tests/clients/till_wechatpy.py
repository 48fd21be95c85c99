"""A till on wechatpy (PyPI), the package as published. What it is asked comes as lines of JSON, see drive.py."""

import json
import sys

import requests
import xmltodict
from wechatpy.exceptions import WeChatPayException
from wechatpy.pay import WeChatPay


class Till(WeChatPay):
    """The only thing that differs from a till of the wallet: where it asks."""


def answer(client, fields):
    """What the client made of an answer, judged by its own check of signatures."""
    fields = dict(fields)
    return {"fields": fields, "verified": client.check_signature(fields)}


def asked(client, ask):
    op, fields = ask["op"], ask["fields"]
    try:
        if op == "micropay":
            return answer(client, client.micropay.create(client_ip="127.0.0.1", **fields))
        if op == "orderquery":
            return answer(client, client.order.query(**fields))
        return answer(client, client.order.reverse(**fields))
    except WeChatPayException as refused:
        # The client raises before it looks at the signature of a refusal.
        parsed = xmltodict.parse(refused.response.text)["xml"]
        return {**answer(client, parsed), "raised": refused.errcode or refused.return_code}
    except requests.ConnectionError:
        return {"lost": True}


def main():
    place = json.loads(sys.argv[1])
    assert place["sign_type"] == "MD5", "wechatpy sends no sign_type with a payment"
    Till.API_BASE_URL = place["base_url"] + "/"
    client = Till(place["appid"], place["key"], place["mch_id"], place.get("sub_mch_id"), timeout=20)
    for line in sys.stdin:
        print(json.dumps(asked(client, json.loads(line))), flush=True)


main()
