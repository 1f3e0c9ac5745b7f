//! What is placed, at the program and beside a running master: the harms that
//! a file beside the store once did, by name.

use serde_json::{Value, json};

mod processes;

use processes::{Data, Process};

/// A fleet of `(name, last byte of the address, services)` in this network.
fn fleet(network: &str, deckies: &[(&str, u8, &[&str])]) -> Value {
    let deckies: Vec<Value> = deckies
        .iter()
        .map(|(name, byte, services)| {
            json!({"name": name, "ip": format!("{network}.{byte}"), "services": services, "distro": "debian",
                   "base_image": "debian:12", "hostname": name})
        })
        .collect();
    json!({"mode": "unihost", "interface": "eth0", "subnet": format!("{network}.0/24"),
           "gateway": format!("{network}.1"), "deckies": deckies})
}

/// `decky: services, running/of` of all that is placed or found.
fn ps(data: &Data, code: i32) -> Vec<String> {
    let (out, _) = data.ends(code, &["--json", "ps"]);
    out.lines()
        .map(|line| {
            let decky: Value = serde_json::from_str(line).unwrap();
            let services: Vec<&str> =
                decky["services"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            format!(
                "{} {} {}",
                decky["decky"].as_str().unwrap(),
                services.join(","),
                decky["up"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_renamed_decky_with_its_address_kept_is_refused_and_pruned_when_asked() {
    let data = Data::new();
    let old = data.file("old.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    let new = data.file("new.json", &fleet("10.1.0", &[("pbx", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &old, "--engine", "process"]);
    let (plan, _) = data.ends(2, &["plan", &new]);
    assert!(plan.contains("+ pbx new on master") && plan.contains("! pbx: 10.1.0.9 is a's"), "{plan}");
    let (_, told) = data.ends(2, &["deploy", &new]);
    assert!(told.contains("pbx: 10.1.0.9 is a's, which is placed"), "{told}");
    // Nothing was written, and all can still be managed.
    assert_eq!(ps(&data, 0), ["a ssh 1/1", "b ftp 1/1"]);
    let (plan, _) = data.ends(1, &["plan", &new, "--prune"]);
    assert!(plan.contains("- a on master"), "{plan}");
    data.ends(0, &["deploy", &new, "--prune"]);
    assert_eq!(ps(&data, 0), ["b ftp 1/1", "pbx ssh 1/1"]);
    data.ends(0, &["mutate", "pbx", "--services", "ssh,redis"]);
    let (out, _) = data.ends(0, &["teardown", "--yes"]);
    assert!(out.contains("2 succeeded, 0 failed; 0 decoys are running"), "{out}");
}

#[test]
fn another_subnet_or_gateway_is_refused_while_deckies_of_the_old_one_stay() {
    let data = Data::new();
    let old = data.file("old.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &old, "--engine", "process"]);
    let other = data.file("other.json", &fleet("10.2.0", &[("c", 9, &["ssh"])]));
    let (_, told) = data.ends(2, &["deploy", &other]);
    assert!(told.contains("10.2.0.0/24 on eth0") && told.contains("is in 10.1.0.0/24 on eth0"), "{told}");
    let mut gateway = fleet("10.1.0", &[("c", 9, &["ssh"])]);
    gateway["gateway"] = json!("10.1.0.10");
    gateway["deckies"][0]["ip"] = json!("10.1.0.11");
    let (_, told) = data.ends(2, &["deploy", &data.file("gateway.json", &gateway)]);
    assert!(told.contains("gateway 10.1.0.10"), "{told}");
    // With all of its deckies a network may change.
    let moved = data.file("moved.json", &fleet("10.2.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    let (plan, _) = data.ends(1, &["plan", &moved]);
    assert!(plan.contains("~ a address 10.1.0.9 -> 10.2.0.9"), "{plan}");
    data.ends(0, &["deploy", &moved]);
    data.ends(0, &["teardown", "--yes"]);
}

#[test]
fn deckies_that_the_file_does_not_name_are_told_and_stay() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    let less = data.file("less.json", &fleet("10.1.0", &[("a", 9, &["ssh"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    let (_, told) = data.ends(0, &["deploy", &less]);
    assert!(told.contains("1 decky runs that this file doesn't name: b; --prune takes it down"), "{told}");
    let (plan, _) = data.ends(0, &["plan", &less]);
    assert!(plan.contains("- b runs on master and this fleet does not name it"), "{plan}");
    assert_eq!(ps(&data, 0), ["a ssh 1/1", "b ftp 1/1"]);
    data.ends(0, &["teardown", "--yes"]);
}

#[test]
fn only_leaves_an_earlier_mutate_of_the_others_as_it_is() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    data.ends(0, &["mutate", "a", "--services", "redis"]);
    data.ends(0, &["deploy", &all, "--only", "b"]);
    assert_eq!(ps(&data, 0), ["a redis 1/1", "b ftp 1/1"]);
    let (plan, _) = data.ends(1, &["plan", &all]);
    assert!(plan.contains("~ a services -redis +ssh"), "{plan}");
    data.ends(0, &["teardown", "--yes"]);
}

#[test]
fn a_dead_service_and_a_missing_decky_are_told_with_exit_1() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh", "ftp"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    // A service that does not run is as good as dead.
    let token = data.path("decoys");
    let ssh: Vec<_> = std::fs::read_dir(&token)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("a.ssh"))
        .collect();
    assert!(!ssh.is_empty());
    for path in ssh {
        std::fs::remove_file(path).unwrap();
    }
    let left = ps(&data, 1);
    assert!(left[0].starts_with("a ssh,ftp 1/2 (ssh "), "{left:?}");
    let told = data.refused(&["ps", "nobody"]);
    assert!(told.contains("there is no decky nobody; there is a"), "{told}");
    data.ends(0, &["teardown", "--yes"]);
    assert_eq!(ps(&data, 0), [""; 0]);
}

/// What the first version left of a fleet that is up: rows without placements,
/// and its state file, as it was merged.
fn as_the_first_version_left_it(data: &Data, change: impl FnOnce(&mut Value)) {
    let (state, _) = data.ends(0, &["export", "--state"]);
    let mut state: Value = serde_json::from_str(&state).unwrap();
    change(&mut state);
    std::fs::remove_file(data.path("lifecycle.redb")).unwrap();
    std::fs::write(data.path("fleet-state.json"), state.to_string()).unwrap();
}

#[test]
fn a_data_directory_of_the_first_version_is_taken_over() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    as_the_first_version_left_it(&data, |_| {});
    let (_, told) = data.ends(0, &["mutate", "a", "--services", "redis"]);
    assert!(told.contains("2 deckies of fleet-state.json are placed in the store from now on"), "{told}");
    assert!(data.path("fleet-state.json.taken-over").exists() && !data.path("fleet-state.json").exists());
    assert_eq!(ps(&data, 0), ["a redis 1/1", "b ftp 1/1"]);
    let (_, told) = data.ends(0, &["teardown", "--yes"]);
    assert!(!told.contains("fleet-state"), "{told}");
}

#[test]
fn a_state_file_that_contradicts_itself_is_read_as_far_as_it_goes() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    // As two deploys of the first version left it: one address twice, and one
    // outside of the network.
    as_the_first_version_left_it(&data, |state| {
        let deckies = state["config"]["deckies"].as_array_mut().unwrap();
        let mut twice = deckies[0].clone();
        twice["name"] = json!("twice");
        let mut far = deckies[0].clone();
        far["name"] = json!("far");
        far["ip"] = json!("10.9.0.9");
        deckies.extend([twice, far]);
    });
    let (_, told) = data.ends(0, &["teardown", "b"]);
    assert!(told.contains("not taken over from fleet-state.json: twice: 10.1.0.9 is a's"), "{told}");
    assert!(told.contains("10.9.0.9 lies outside the subnet 10.1.0.0/24"), "{told}");
    assert_eq!(ps(&data, 0), ["a ssh 1/1"]);
    data.ends(0, &["teardown", "--yes"]);
}

#[test]
fn a_decky_moves_between_workers_with_a_row_of_its_own_and_never_runs_twice() {
    let data = Data::with_hosts(&["w1", "w2"]);
    let master = Process::master(&data, &[]);
    let beats = master.address("swarm").to_string();
    let _workers = ["w1", "w2"]
        .map(|host| Process::start(&data, &["worker", host, "--master", &beats, "--beat-every", "1s"]));
    let on = |host: &str| {
        let mut fleet = fleet("10.1.0", &[("a", 9, &["ssh"])]);
        fleet["mode"] = json!("swarm");
        fleet["deckies"][0]["host_uuid"] = json!(host);
        fleet
    };
    data.ends(0, &["deploy", &data.file("one.json", &on("w1"))]);
    let two = data.file("two.json", &on("w2"));
    let (plan, _) = data.ends(2, &["plan", &two]);
    assert!(plan.contains("! a: it is placed on w1, and was asked for on w2"), "{plan}");
    let (_, told) = data.ends(2, &["deploy", &two]);
    assert!(told.contains("it is placed on w1"), "{told}");
    let (plan, _) = data.ends(1, &["plan", &two, "--move"]);
    assert_eq!(plan.trim(), "> a moves w1 -> w2");
    let (out, _) = data.ends(0, &["deploy", &two, "--move"]);
    assert!(out.contains("2 succeeded, 0 failed; 1 decoys are running"), "{out}");
    // A unihost fleet afterwards makes nothing of a worker's decky its own.
    let near = data.file("near.json", &fleet("10.1.0", &[("near", 20, &["ssh"])]));
    data.ends(0, &["deploy", &near]);
    data.ends(0, &["mutate", "a", "--services", "ftp"]);
    let (out, _) = data.ends(0, &["--json", "ls", "--decky", "a"]);
    let newest: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&newest["operation"], &newest["host"]), (&json!("mutate"), &json!("w2")));
    let (_, told) = data.ends(0, &["hosts", "rm", "w1"]);
    assert!(!told.contains("placed there"), "{told}");
    data.ends(0, &["teardown", "--yes"]);
    assert_eq!(ps(&data, 0), [""; 0]);
}

#[test]
fn the_deckies_of_a_host_that_is_gone_are_told_and_forgotten() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, &[]);
    let beats = master.address("swarm").to_string();
    let mut worker = Process::start(&data, &["worker", "w1", "--master", &beats, "--beat-every", "1s"]);
    let mut fleet = fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ssh"])]);
    fleet["mode"] = json!("swarm");
    for decky in fleet["deckies"].as_array_mut().unwrap() {
        decky["host_uuid"] = json!("w1");
    }
    data.ends(0, &["deploy", &data.file("fleet.json", &fleet)]);
    worker.kill();
    let (_, told) = data.ends(0, &["hosts", "rm", "w1"]);
    assert!(told.contains("2 deckies are placed there: a, b"), "{told}");
    data.ends(1, &["teardown", "a"]);
    let (out, _) = data.ends(0, &["teardown", "--forget", "a", "b"]);
    assert!(out.contains("a: forgotten; whatever of it is on host/w1 may run on, at 10.1.0.9"), "{out}");
}

/// The first version's unihost deploy after one to a swarm left the whole
/// merged file unihost, with worker hosts in it.
#[test]
fn deckies_of_workers_stay_theirs_when_an_old_state_file_is_taken_over() {
    let data = Data::new();
    let all = data.file("all.json", &fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]));
    data.ends(0, &["deploy", &all, "--engine", "process"]);
    as_the_first_version_left_it(&data, |state| {
        let deckies = state["config"]["deckies"].as_array_mut().unwrap();
        let mut far = deckies[0].clone();
        (far["name"], far["ip"], far["host_uuid"]) = (json!("far"), json!("10.1.0.11"), json!("w1"));
        deckies.push(far);
    });
    // Whoever comes first takes it over, also to look only.
    let (plan, told) = data.ends(0, &["plan", &all]);
    assert!(told.contains("3 deckies of fleet-state.json are placed"), "{told}");
    assert!(plan.contains("far runs on w1"), "{plan}");
    let (out, _) = data.ends(1, &["teardown", "--yes"]);
    assert!(out.contains("2 succeeded, 1 failed"), "{out}");
    assert!(ps(&data, 0)[0].starts_with("far"), "{:?}", ps(&data, 0));
    data.ends(0, &["teardown", "--forget", "far"]);
}

#[test]
fn a_plan_refuses_what_a_deploy_would_refuse() {
    let data = Data::with_hosts(&["w1"]);
    let mut swarm = fleet("10.1.0", &[("a", 9, &["ssh"])]);
    swarm["mode"] = json!("swarm");
    swarm["deckies"][0]["host_uuid"] = json!("w1");
    let swarm = data.file("swarm.json", &swarm);
    let local = data.file("local.json", &fleet("10.1.0", &[("a", 9, &["ssh"])]));
    let same = |args: &[&str], why: &str| {
        for command in [&["plan"][..], &["deploy", "--dry-run"], &["deploy"]] {
            let (_, told) = data.ends(2, &[command, args].concat());
            assert!(told.contains(why), "{command:?} {args:?}: {told}");
        }
    };
    same(&[&swarm], "a is for a worker host, whose beats only a running master hears");
    same(&[&local, "--only", "b"], "the fleet has no decky b");
    let master = Process::master(&data, &[]);
    same(&[&local, "--engine", "process"], "the master that runs has its own engine");
    drop(master);
}

/// What an earlier master accepted is done, also if what is asked now is
/// refused.
#[test]
fn what_was_accepted_is_done_also_by_a_command_that_is_refused() {
    use decnet_lifecycle::{
        DeployRequest, FleetConfig, Runner, lifecycle::MasterName, store::RedbStore, testkit::FakeEngine,
    };
    let data = Data::new();
    let both = fleet("10.1.0", &[("a", 9, &["ssh"]), ("b", 10, &["ftp"])]);
    let path = data.file("both.json", &both);
    data.ends(0, &["deploy", &path, "--engine", "process", "--only", "a"]);
    for (code, args) in
        [(2, &["mutate", "nobody", "--services", "ssh"][..]), (0, &["teardown", "--forget", "a"])]
    {
        let store = std::sync::Arc::new(RedbStore::open(data.path("lifecycle.redb")).unwrap());
        let rows = futures_lite::future::block_on(async {
            use decnet_lifecycle::store::{Query, Store as _};
            store.query(&Query::new()).await.unwrap().records
        });
        let master: MasterName = rows[0].owner.master.clone();
        let engine = std::sync::Arc::new(FakeEngine::new());
        let runner = Runner::builder(store, engine).master(master).build().unwrap();
        let (runner, _) = futures_lite::future::block_on(runner.recover()).unwrap();
        let fleet = FleetConfig::from_json(both.to_string().as_bytes()).unwrap();
        let only = DeployRequest::new(fleet).only(["b".parse().unwrap()]);
        drop(futures_lite::future::block_on(runner.accept_deploy(only)).unwrap());
        drop(runner);
        let (_, told) = data.ends(code, args);
        assert!(told.contains("taken up again"), "{told}");
        let (out, _) = data.ends(0, &["ls", "--open"]);
        assert!(!out.contains(" b "), "{out}");
        assert!(ps(&data, 0).contains(&"b ftp 1/1".to_owned()) || code == 0);
    }
    data.ends(0, &["teardown", "--yes"]);
    data.ends(0, &["teardown", "a"]);
}
