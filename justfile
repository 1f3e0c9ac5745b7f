# What one runs while working on this crate; `just` alone lists it. CONTRIBUTING.md says what each proves.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Unoptimised: quicker to build, and these tests are quick anyway.
quick := "--config profile.dev.package.decnet-lifecycle.opt-level=0"

[private]
default:
    @just --list --unsorted

# The quick gate: format, clippy of the library, its unit tests
check:
    cargo fmt --all --check
    cargo clippy --locked {{ quick }} --lib --all-features -- -D warnings
    cargo test --locked {{ quick }} --lib --all-features

# All tests; those on real containers are skipped where no Docker daemon answers
test:
    cargo test --locked --all-features

# All of CI: as root, on Debian; installs packages and starts a Docker daemon
all:
    .ci/run

# Fuzz one target; what it finds new stays out of the committed corpus
fuzz target seconds="60":
    #!/usr/bin/env bash
    set -euo pipefail
    found=$(mktemp -d)
    echo "new inputs go to $found, a failing one to fuzz/artifacts/{{ target }}"
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{ target }} "$found" fuzz/corpus/{{ target }} -- \
        -max_total_time={{ seconds }} -max_len=2048

# Play so many simulated schedules, from a seed on; rougher weather by name
simulate count="2000" seed="1" weather="":
    cargo run --locked --release --features testkit --example simulate -- {{ count }} {{ seed }} {{ weather }}

# What CI does with fixed dice, with fresh ones, for as long as one likes: each fuzzer so many seconds, so many schedules
campaign seconds="600" schedules="100000":
    #!/usr/bin/env bash
    set -euo pipefail
    seed=$((RANDOM * 32768 + RANDOM))
    echo "seed $seed"
    cargo test --locked --all-features --test model --test redb_damage --test sigkill --test chaos --test secrets --test texts
    just simulate {{ schedules }} "$seed"
    for target in $(cargo fuzz list); do just fuzz "$target" {{ seconds }}; done

# Measure anew, into docs/MEASUREMENTS.md
report:
    #!/usr/bin/env bash
    set -euo pipefail
    measured=$(mktemp)
    cargo bench --locked --features cli,testkit --bench report > "$measured"
    cp "$measured" docs/MEASUREMENTS.md
    rm "$measured"
