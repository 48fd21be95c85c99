"""Holds the running `hufu sandbox` against its own description, with published checkers.

usage: drive.py HUFU FOLDER
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator

HERE = pathlib.Path(__file__).parent
# Customers and wallet run faster; sockets do not.
SPEED = "20"
# Cases for each operation and phase; the seed makes a run that can be repeated.
EXAMPLES = os.environ.get("HUFU_OPENAPI_EXAMPLES", "60")
SEED = os.environ.get("HUFU_OPENAPI_SEED", "1")


def main():
    hufu, folder = sys.argv[1:]
    command = [hufu, "sandbox", "--listen", "127.0.0.1:0", "--speed", SPEED, "--json"]
    sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        ready = json.loads(sandbox.stdout.readline())
        gateway, merchant = ready["gateway"], ready["merchants"][0]
        url = f"{gateway}/openapi.json"
        with urllib.request.urlopen(url) as answer:
            description = json.load(answer)
        with urllib.request.urlopen(gateway) as answer:
            assert '</openapi.json>; rel="service-desc"' in answer.headers["link"], "/ does not say where it is"
        OpenAPIV31SpecValidator(description).validate()
        print(f"OpenAPI {description['openapi']}: valid, {len(description['paths'])} paths")
        st = pathlib.Path(sys.executable).parent / "st"
        arguments = [
            st, "--config-file", HERE.resolve() / "schemathesis.toml",
            "run", url, "--url", gateway, "--phases", "examples,coverage,fuzzing", "--mode", "all",
            # Streams end when what is there has been told, and payments are answered as they are taken.
            "-H", f"Authorization: Bearer {merchant['api_key']}", "-H", "Prefer: wait=0",
            # Under the merchant's rate: what is refused for it would count as refused without a reason.
            "--rate-limit", "150/s", "--seed", SEED, "--max-examples", EXAMPLES,
            "--workers", "1", "--request-timeout", "20", "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(HERE.resolve()), "SCHEMATHESIS_HOOKS": "hooks"}
        found = subprocess.run(list(map(str, arguments)), cwd=folder, env=environment, check=False).returncode
        print("schemathesis: no violation" if found == 0 else f"schemathesis: exit {found}")
        return found
    finally:
        sandbox.terminate()
        sandbox.wait(60)


if __name__ == "__main__":
    sys.exit(main())
