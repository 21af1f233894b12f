"""Requests that schemathesis makes of a server's own OpenAPI documents, by an administrator: none may be answered with 500.

Takes the server's URL, a PEM file with certificate and key, one with the authority, how many requests are asked for, and a
seed. Left out is only what does not end by itself: watches and connections.
"""

import collections
import random
import sys
import time

import hypothesis
import requests
import schemathesis
from schemathesis.generation import GenerationMode

NAMES = ["a", "b", "web", "default", "node-1"]
# Longer than the server allows itself for any request.
PATIENCE = 90


def documents(session, url):
    """The version 3 document of each group."""
    for place in session.get(f"{url}/openapi/v3").json()["paths"].values():
        yield session.get(url + place["serverRelativeURL"]).json()


def is_connection(operation):
    return isinstance(operation, dict) and operation.get("x-kubernetes-action") == "connect"


class Run:
    def __init__(self, session, url, seed):
        self.session, self.url = session, url
        self.random = random.Random(seed)
        self.codes = collections.Counter()
        self.failures = []

    def ask(self, case):
        if case.path_parameters:
            # Names meet; otherwise hardly anything would be found.
            if "name" in case.path_parameters and self.random.random() < 0.8:
                case.path_parameters["name"] = self.random.choice(NAMES)
            if "namespace" in case.path_parameters and self.random.random() < 0.9:
                case.path_parameters["namespace"] = "default"
        if isinstance(case.query, dict):
            case.query.pop("watch", None)
        try:
            response = case.call(base_url=self.url, session=self.session, timeout=PATIENCE, verify=self.session.verify)
        except requests.RequestException as why:
            self.codes[0] += 1
            self.failures.append(f"no answer: {why}\n{case.as_curl_command()}")
            return
        self.codes[response.status_code] += 1
        if response.status_code == 500:
            self.failures.append(f"{response.status_code}: {response.text}\n{case.as_curl_command()}")

    def try_operation(self, operation, count, seed):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases = operation.as_strategy(generation_mode=mode)

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=max(1, count // 2),
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=cases)
            def each(case):
                self.ask(case)

            try:
                each()
            except hypothesis.errors.Unsatisfiable:
                # Nothing can be wrong with a request that takes nothing.
                pass


def main():
    url, identity, authority, count, seed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    session = requests.Session()
    # Proxies and authorities of the machine have no part in it.
    session.trust_env, session.cert, session.verify = False, identity, authority
    operations = []
    for document in documents(session, url):
        for path in document["paths"].values():
            for method in [method for method, operation in path.items() if is_connection(operation)]:
                del path[method]
        schema = schemathesis.openapi.from_dict(document)
        operations += [result.ok() for result in schema.get_all_operations()]
    run, start, round = Run(session, url, seed), time.monotonic(), 0
    while run.codes.total() < count:
        share = max(2, (count - run.codes.total()) // len(operations))
        for operation in operations:
            if run.codes.total() >= count:
                break
            run.try_operation(operation, share, seed + round)
        round += 1
    took = time.monotonic() - start
    print(f"{run.codes.total()} requests of {len(operations)} operations in {took:.0f} s: {sorted(run.codes.items())}")
    for failure in run.failures:
        print(f"FAILED: {failure}")
    sys.exit(1 if run.failures else 0)


if __name__ == "__main__":
    main()
