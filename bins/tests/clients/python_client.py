"""What programs do with the Python client. Run with a kubeconfig as the only argument; says what it has done."""

import os
import sys
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.informer.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import stream

NAMESPACE = "python"
LABELS = {"of": "row"}


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as refusal:
        assert refusal.status == code, refusal
        return refusal
    raise AssertionError(f"{call} was not refused")


def until(what, is_so, patience=60):
    start = time.monotonic()
    while not (result := is_so()):
        assert time.monotonic() - start < patience, what
        time.sleep(0.05)
    return result


def config_map(name, data=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=LABELS), data=data or {"k": "1"})


def pod(name):
    annotations = {"hollow/log": "first\nsecond\n", "hollow/exec-output": "done\n", "hollow/exec-exit-code": "3"}
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels=LABELS, annotations=annotations),
        spec=client.V1PodSpec(
            containers=[client.V1Container(name="main", image="main:1")], termination_grace_period_seconds=0
        ),
    )


def objects(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("a"))
    assert made.metadata.uid and made.metadata.resource_version
    refused(409, core.create_namespaced_config_map, NAMESPACE, config_map("a"))
    refused(404, core.read_namespaced_config_map, "none", NAMESPACE)
    refused(422, core.create_namespaced_config_map, NAMESPACE, config_map("Not A Name"))
    made.data = {"k": "2"}
    changed = core.replace_namespaced_config_map("a", NAMESPACE, made)
    refused(409, core.replace_namespaced_config_map, "a", NAMESPACE, made)
    assert core.read_namespaced_config_map("a", NAMESPACE).to_dict() == changed.to_dict()
    core.create_namespaced_config_map(NAMESPACE, config_map("tried"), dry_run="All")
    refused(404, core.read_namespaced_config_map, "tried", NAMESPACE)
    gone = core.delete_namespaced_config_map("a", NAMESPACE, body=client.V1DeleteOptions(propagation_policy="Background"))
    assert gone["status"] == "Success", gone


def pages(core):
    for number in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"m{number}"))
    names, token, sizes = [], None, []
    while token != "":
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="of=row", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        sizes.append(len(page.items))
        token = page.metadata._continue or ""
    assert sizes == [3, 3, 1] and names == [f"m{number}" for number in range(7)], names
    everywhere = core.list_config_map_for_all_namespaces(label_selector="of=row", field_selector="metadata.name=m3")
    assert len(everywhere.items) == 1
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=row")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="of=row").items


def patches(core, apps):
    core.create_namespaced_config_map(NAMESPACE, config_map("a"))
    merged = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"k": None, "l": "2"}})
    assert merged.data == {"l": "2"}, merged.data
    steps = [{"op": "test", "path": "/data/l", "value": "2"}, {"op": "replace", "path": "/data/l", "value": "3"}]
    assert core.patch_namespaced_config_map("a", NAMESPACE, steps).data == {"l": "3"}
    refused(422, core.patch_namespaced_config_map, "a", NAMESPACE, steps)
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=LABELS),
        spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="web:1")]),
    )
    spec = client.V1DeploymentSpec(replicas=0, selector=client.V1LabelSelector(match_labels=LABELS), template=template)
    apps.create_namespaced_deployment(
        NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, side)
    assert sorted(c.name for c in patched.spec.template.spec.containers) == ["side", "web"], "merged by name"
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    assert scale.spec.replicas == 2
    ready = lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.ready_replicas == 2
    until("the deployment is ready", ready)
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    until("its pods are gone", lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="of=row").items)
    core.delete_namespaced_config_map("a", NAMESPACE)


def applies(core):
    def of(value):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}}

    def apply(manager, value, **more):
        kind = "application/apply-patch+yaml"
        return core.patch_namespaced_config_map(
            "applied", NAMESPACE, of(value), field_manager=manager, _content_type=kind, **more
        )

    assert apply("one", "1").metadata.managed_fields[0].manager == "one"
    refused(409, apply, "two", "2")
    assert apply("two", "2", force=True).data == {"k": "2"}


def watches(core):
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("w"))
    core.patch_namespaced_config_map("w", NAMESPACE, {"data": {"k": "2"}})
    core.delete_namespaced_config_map("w", NAMESPACE)
    seen, version = [], start
    # Each time a watch of its own, from what was seen last.
    for _ in range(3):
        watching = watch.Watch()
        events = watching.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=version, label_selector="of=row", timeout_seconds=10
        )
        event = next(iter(events))
        watching.stop()
        seen.append(event["type"])
        version = event["object"].metadata.resource_version
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen
    ended = list(watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=1))
    assert ended == [], ended


def dynamic_objects(api):
    found = dynamic.DynamicClient(api)
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d", "labels": LABELS}, "data": {"k": "1"}}
    made = maps.create(body=body, namespace=NAMESPACE)
    assert made.metadata.uid and made.data.k == "1"
    applied = maps.server_side_apply(
        body={**body, "data": {"k": "2"}}, namespace=NAMESPACE, field_manager="d", force_conflicts=True
    )
    assert applied.data.k == "2"
    assert [item.metadata.name for item in maps.get(namespace=NAMESPACE, label_selector="of=row").items] == ["d"]
    for event in maps.watch(namespace=NAMESPACE, label_selector="of=row", timeout=5):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "d")
        break
    maps.delete(name="d", namespace=NAMESPACE)
    nodes = found.resources.get(api_version="v1", kind="Node")
    assert not nodes.namespaced and len(nodes.get().items) == 2
    sets = found.resources.search(api_version="apps/v1", kind="ReplicaSet")
    assert sets, "a search finds kinds"


def from_manifests(api, core):
    manifest = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l1"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "l2"}, "stringData": {"k": "v"}},
        ],
    }
    utils.create_from_dict(api, manifest, namespace=NAMESPACE)
    assert core.read_namespaced_secret("l2", NAMESPACE).data == {"k": "dg=="}


def pods(core):
    core.create_namespaced_pod(NAMESPACE, pod("p"))
    until("it runs", lambda: core.read_namespaced_pod("p", NAMESPACE).status.phase == "Running")
    assert core.read_namespaced_pod_log("p", NAMESPACE) == "first\nsecond\n"
    assert core.read_namespaced_pod_log("p", NAMESPACE, tail_lines=1) == "second\n"
    events = lambda: core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=p,reason=Scheduled").items
    until("the scheduler says so", events)
    said = stream(
        core.connect_get_namespaced_pod_exec, "p", NAMESPACE, command=["what", "ever"],
        stderr=True, stdin=False, stdout=True, tty=False, _preload_content=False,
    )
    said.run_forever(timeout=20)
    assert said.read_stdout() == "done\n" and said.returncode == 3, said.returncode
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="p", namespace=NAMESPACE))
    core.create_namespaced_pod_eviction("p", NAMESPACE, eviction)
    until("it is gone", lambda: not core.list_namespaced_pod(NAMESPACE, field_selector="metadata.name=p").items)


def informers(core):
    seen = []
    informer = SharedInformer(core.list_namespaced_config_map, namespace=NAMESPACE, label_selector="of=informed")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, lambda item, kind=kind: seen.append(kind))
    informer.start()
    body = config_map("i")
    body.metadata.labels = {"of": "informed"}
    core.create_namespaced_config_map(NAMESPACE, body)
    until("it is told of the new one", lambda: seen == ["ADDED"])
    core.patch_namespaced_config_map("i", NAMESPACE, {"data": {"k": "2"}})
    until("it is told of the change", lambda: seen == ["ADDED", "MODIFIED"])
    assert informer.cache.get_by_key(f"{NAMESPACE}/i").data == {"k": "2"}
    core.delete_namespaced_config_map("i", NAMESPACE)
    until("it is told of the end", lambda: seen == ["ADDED", "MODIFIED", "DELETED"])
    informer.stop()


class MortalLock(LeaseLock):
    """The lock of a candidate that can be cut off."""

    dead = False

    def update(self, name, namespace, updated_record):
        return not self.dead and super().update(name, namespace, updated_record)


def elections():
    said = []

    def candidate(name):
        lock = MortalLock("leader", NAMESPACE, name)
        settings = electionconfig.Config(
            lock,
            lease_duration=4,
            renew_deadline=2,
            retry_period=1,
            onstarted_leading=lambda: said.append(f"{name} leads"),
            onstopped_leading=lambda: said.append(f"{name} stops"),
        )
        threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
        return lock

    first = candidate("first")
    until("the first leads", lambda: said == ["first leads"])
    candidate("second")
    leases = client.CoordinationV1Api()
    renewed = lambda: leases.read_namespaced_lease("leader", NAMESPACE).spec.renew_time
    start = renewed()
    until("the first renews", lambda: renewed() != start)
    assert said == ["first leads"], said
    first.dead = True
    until("the second takes over", lambda: said == ["first leads", "first stops", "second leads"])
    assert leases.read_namespaced_lease("leader", NAMESPACE).spec.holder_identity == "second"


def main():
    config.load_kube_config(sys.argv[1])
    api = client.ApiClient()
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    assert client.VersionApi(api).get_code().minor == "37"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    until("its account is there", lambda: core.list_namespaced_service_account(NAMESPACE).items)
    steps = {
        "objects": lambda: objects(core),
        "pages": lambda: pages(core),
        "patches": lambda: patches(core, apps),
        "applies": lambda: applies(core),
        "watches": lambda: watches(core),
        "dynamic objects": lambda: dynamic_objects(api),
        "from manifests": lambda: from_manifests(api, core),
        "pods": lambda: pods(core),
        "informers": lambda: informers(core),
        "elections": elections,
    }
    for name, step in steps.items():
        start = time.monotonic()
        step()
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    # The candidates of the election go on for ever: nobody waits for them.
    os._exit(0)


if __name__ == "__main__":
    main()
