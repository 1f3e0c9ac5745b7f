//! INI fleets: the original's own, and what is refused that it swallows.

use std::collections::BTreeSet;

use decnet_lifecycle::{
    fleet::{FleetError, HostNetwork, IniFleet, IniSettings},
    *,
};
use serde_json::{Value, json};

fn settings() -> IniSettings {
    IniSettings::new("2023-11-14T22:13:20Z".parse().unwrap(), 1)
}

fn read(text: &str) -> IniFleet {
    FleetConfig::from_ini(text.as_bytes(), &settings()).unwrap()
}

/// The problems of a file, a line each.
fn wrong(text: &str) -> Vec<String> {
    wrong_with(text.as_bytes(), &settings())
}

fn wrong_with(bytes: &[u8], settings: &IniSettings) -> Vec<String> {
    match FleetConfig::from_ini(bytes, settings) {
        Err(FleetError::Invalid(problems)) => problems.list().iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn notes(text: &str) -> Vec<String> {
    read(text).notes.iter().map(ToString::to_string).collect()
}

fn value(fleet: &FleetConfig) -> Value {
    serde_json::from_str(&fleet.to_json()).unwrap()
}

const NET: &str = "[general]\nnet=10.66.0.0/24\ngw=10.66.0.1\ninterface=lo\n";

/// What the original makes of a sample, but for host names and times.
fn without_chance(mut fleet: Value) -> Value {
    for decky in fleet["deckies"].as_array_mut().unwrap() {
        let decky = decky.as_object_mut().unwrap();
        decky.remove("hostname");
        decky.remove("last_mutated");
    }
    fleet
}

/// A sample: its text and what the original made of it.
macro_rules! sample {
    ($name:literal) => {
        (
            include_str!(concat!("original/ini/", $name, ".ini")).to_owned(),
            serde_json::from_str::<Value>(include_str!(concat!("original/ini/", $name, ".fleet.json")))
                .unwrap(),
        )
    };
}

fn compare(name: &str, text: &str, settings: &IniSettings, wanted: Value) -> IniFleet {
    let read =
        FleetConfig::from_ini(text.as_bytes(), settings).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(without_chance(value(&read.fleet)), without_chance(wanted), "{name}");
    read
}

#[test]
fn the_originals_samples_give_what_the_original_makes_of_them() {
    for (name, (text, wanted)) in [
        ("01", sample!("01-explicit")),
        ("02", sample!("02-archetype-amount")),
        ("04", sample!("04-subsections")),
        ("08", sample!("08-syntax")),
        ("10", sample!("10-distros")),
    ] {
        compare(name, &text, &settings(), wanted);
    }
}

#[test]
fn an_address_outside_the_net_is_refused_the_others_are_given_as_there() {
    let (text, mut wanted) = sample!("03-auto-ip");
    let mut settings = settings();
    // The machine that the original ran on.
    settings.taken.insert("192.0.2.2".parse().unwrap());
    assert_eq!(
        wrong_with(text.as_bytes(), &settings),
        [
            "line 14, [far] ip: 203.0.113.9 lies outside the subnet 192.0.2.0/28; write a free address from 192.0.2.1 to 192.0.2.14"
        ]
    );
    let told = wrong_with(text.replace("203.0.113.9", "192.0.2.2").as_bytes(), &settings);
    assert_eq!(told, ["line 14, [far] ip: 192.0.2.2 is taken by another; write a free address"]);
    wanted["deckies"][4]["ip"] = json!("192.0.2.9");
    compare("03", &text.replace("203.0.113.9", "192.0.2.9"), &settings, wanted);
}

#[test]
fn a_deckys_own_interval_is_kept() {
    let (text, mut wanted) = sample!("05-os-interval");
    // There 30 of the command line overrules what the file says.
    wanted["deckies"][0]["mutate_interval"] = json!(7);
    wanted["deckies"][1]["mutate_interval"] = json!(15);
    let read = compare("05", &text, &settings(), wanted);
    let told: Vec<String> = read.notes.iter().map(ToString::to_string).collect();
    let nothing_reads = |what: &str| told.iter().any(|note| note.contains(&format!("nothing reads {what};")));
    for key in ["log_file", "mode", "ipvlan", "mutate_interval", "distro", "hostname"] {
        assert!(nothing_reads(key), "{key}: {told:?}");
    }
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn services_of_ones_own_come_from_a_catalogue() {
    let (text, mut wanted) = sample!("06-custom");
    let told = wrong(&text);
    assert_eq!(
        told[0],
        "line 6, [custom-my_db]: my_db would be known to this file alone, not to mutations and workers; define it in a \
         catalogue file: {\"services\":{\"my_db\":{\"command\":[\"/usr/bin/my-db\",\"--port\",\"9999\"],\
         \"image\":\"registry.local/my-db:1\",\"ports\":[\"9999/tcp\",\"10000/tcp\"]}}}"
    );
    assert!(told.iter().any(|line| line.contains("there is no service my_db")), "{told:?}");
    let mut settings = settings();
    settings.services.insert(ServiceName::parse("my_db").unwrap());
    // There it becomes a decky of that name, with a dot.
    wanted["deckies"].as_array_mut().unwrap().truncate(1);
    wanted["deckies"][0]["service_config"] = json!({"my_db": {"key": "value", "services": "ssh"}});
    let read = compare("06", &text, &settings, wanted);
    assert!(read.notes[0].to_string().contains("the catalogue's my_db is taken"), "{:?}", read.notes);
}

#[test]
fn what_is_drawn_comes_from_the_seed() {
    let (text, wanted) = sample!("07-random");
    let drawn = |seed: u64, text: &str| {
        let mut settings = settings();
        settings.seed = seed;
        FleetConfig::from_ini(text.as_bytes(), &settings).unwrap().fleet
    };
    let (mut ours, mut theirs) = (without_chance(value(&drawn(1, &text))), without_chance(wanted));
    for fleet in [&mut ours, &mut theirs] {
        for decky in fleet["deckies"].as_array_mut().unwrap() {
            let services = decky.as_object_mut().unwrap().remove("services").unwrap();
            assert!((1..=3).contains(&services.as_array().unwrap().len()));
        }
    }
    assert_eq!(ours, theirs);
    assert_eq!(drawn(1, &text), drawn(1, &text));
    assert_ne!(drawn(1, &text), drawn(2, &text));
    // A decky before it changes nothing of what a decky is drawn.
    let (alone, with) = (drawn(1, &text), drawn(1, &text.replace("[rnd]", "[first]\nservices=ssh\n[rnd]")));
    for (a, b) in alone.deckies.iter().zip(with.deckies.iter().skip(1)) {
        assert_eq!((&a.name, &a.services), (&b.name, &b.services));
    }
    // Many draws: within bounds, no port twice, no host name twice.
    let many = drawn(3, &format!("{NET}[many]\namount=100\n"));
    let hostnames: BTreeSet<&str> = many.deckies.iter().map(|decky| decky.hostname.as_str()).collect();
    assert_eq!(hostnames.len(), 100);
    for decky in &many.deckies {
        let has = |name: &str| decky.services.iter().any(|service| service.as_str() == name);
        assert!((1..=3).contains(&decky.services.len()));
        assert!(!(has("smtp") && has("smtp_relay") || has("http") && has("https")), "{:?}", decky.services);
    }
}

#[test]
fn names_may_be_what_users_have_but_for_dots() {
    let (text, mut wanted) = sample!("09-names");
    assert_eq!(
        wrong(&text),
        [
            "line 10, [decky.webmail]: a decky name can't hold a '.': topics and file names are split at dots; write another name",
            "line 14, [-x.]: a decky name can't hold a '.': topics and file names are split at dots; write another name",
        ]
    );
    wanted["deckies"][2]["name"] = json!("decky-webmail");
    wanted["deckies"][4]["name"] = json!("x");
    compare("09", &text.replace("decky.webmail", "decky-webmail").replace("-x.", "x"), &settings(), wanted);
    let told = wrong(&format!("{NET}[DC01]\nservices=ssh\n[dc01]\nservices=ssh\n"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("line 7, [dc01]: dc01 differs from DC01 of line 5, [DC01] in case alone"),
        "{told:?}"
    );
}

#[test]
fn the_wizards_text_is_decoded_and_gets_this_machines_network() {
    let (text, mut wanted) = sample!("11-wizard");
    let mut settings = settings();
    settings.host = Some(HostNetwork {
        interface: "eth0".into(),
        subnet: "192.0.2.0/24".parse().unwrap(),
        gateway: "192.0.2.1".parse().unwrap(),
    });
    settings.taken.insert("192.0.2.2".parse().unwrap());
    settings.log_file = None;
    wanted["deckies"][0]["service_config"]["http"]["custom_body"] = json!("<h1>Hi</h1>\n<p>\u{e9}</p>\n");
    compare("11", &text, &settings, wanted);
    let told = wrong_with(text.replace("b64:P", "b64:?").as_bytes(), &settings);
    assert_eq!(
        told,
        [
            "line 10, [decky-01.http]: custom_body: what follows b64: is not the base64 of UTF-8 text; encode it anew, or write the text itself"
        ]
    );
    // Without a network of its own, the file has to name one.
    let told = self::wrong(&text);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].starts_with("interface is missing, and nothing is known of this machine's network"),
        "{told:?}"
    );
}

#[test]
fn every_problem_is_told_with_its_line_and_all_at_once() {
    for (text, wanted) in [
        ("[a]\nservices=SSH\n", "line 6, [a] services: there is no service SSH; did you mean ssh?"),
        (
            "[a]\nservices=ssh # x\n",
            "line 6, [a] services: there is no service ssh # x; write comments on lines of their own",
        ),
        (
            "[a]\nservices=ssh,,http\n",
            "line 6, [a] services: a service is missing beside a comma; write services = ssh,http",
        ),
        ("[a]\nservices=ssh,ssh\n", "line 6, [a] services: ssh is listed twice; list each service once"),
        (
            "[a]\nservices=sniffer\n",
            "line 6, [a] services: sniffer is one for the whole fleet, no service of a decky; take it off the list",
        ),
        (
            "[a]\narchetype=web-servr\n",
            "line 6, [a] archetype: there is no archetype web-servr; did you mean web-server?",
        ),
        ("[a]\namount=0\n", "line 6, [a] amount: 0 is no number from 1 to 100; write such as amount = 3"),
        ("[a]\namount=\n", "line 6, [a] amount:  is no number from 1 to 100; write such as amount = 3"),
        ("[a]\namount=101\n", "line 6, [a] amount: 101 is no number from 1 to 100; write such as amount = 3"),
        (
            "[a]\namount=2\nip=10.66.0.9\n",
            "line 7, [a] ip: 2 deckies can't have one address; take ip or amount away",
        ),
        (
            "[a]\nmutate_interval=5m\n",
            "line 6, [a] mutate_interval: 5m is no number of minutes; write a whole number from 1",
        ),
        ("[a]\nip=10.66.0.09\n", "line 6, [a] ip: 10.66.0.09 is no IPv4 address; write such as 10.66.0.10"),
        (
            "[a]\nip=10.66.0.1\n",
            "line 6, [a] ip: 10.66.0.1 is the gateway's address; write a free address from 10.66.0.1 to 10.66.0.254",
        ),
        (
            "[a]\nip=10.66.0.255\n",
            "line 6, [a] ip: 10.66.0.255 is the network's own or its broadcast address; write a free address from 10.66.0.1 to 10.66.0.254",
        ),
        (
            "[a]\nip=10.66.0.9\n[b]\nip=10.66.0.9\n",
            "line 8, [b] ip: 10.66.0.9 is the address of line 5, [a] as well; give each decky an address of its own",
        ),
        (
            "[a]\namount=2\n[a-01]\nservices=ssh\n",
            "line 7, [a-01]: a-01 is the name of line 5, [a] as well; give each decky a name of its own",
        ),
        (
            "[a]\n[a]\n",
            "line 6: [a] stands on line 5 as well; give each section a name of its own, or put the two together",
        ),
        ("[a]\nip=10.66.0.9\nIP=10.66.0.8\n", "line 7: ip stands on line 6 as well; keep one of the two"),
        (
            "[a]\nservices=ssh\n [b]\n",
            "line 7, [a]: it is indented, so it is part of services of line 6; write sections and keys at the start of the line",
        ),
        (
            "[a]\ndistro=x\n  ip=10.66.0.9\n",
            "line 7, [a]: it is indented, so it is part of distro of line 6; write sections and keys at the start of the line",
        ),
        (
            "[a]\n[a.ssh]\npassword=x\n  user=root\n",
            "line 8, [a.ssh]: it is indented, so it is part of password of line 7; write sections and keys at the start of the line",
        ),
        (
            "[a] services=ssh\n",
            "line 5: what stands behind [a] would not be read; write it on a line of its own",
        ),
        ("[a\nservices=ssh\n[b]\n", "line 5: [a looks like a section, and is none; write such as [decky-01]"),
        (
            "[a]\nservices\n",
            "line 6: services is neither a section nor a key with a value; write such as services = ssh,http",
        ),
        (
            "[a ]\n",
            "line 5, [a]: a decky name is made of letters, digits, '-' and '_'; ' ' is not one of them; write another name",
        ),
        ("[a]\nnmap_os=50%\n", "line 6, [a] nmap_os: it holds a lone %; write %% for a %"),
        (
            "[a]\nnmap_os=%(x)s\n",
            "line 6, [a] nmap_os: %(x)s names no key of this section or of [DEFAULT]; write %% for a %",
        ),
        (
            "[a]\nnmap_os=%(nmap_os)s\n",
            "line 6, [a] nmap_os: its references go round in circles; write the value itself",
        ),
        ("[a]\n[a.ssh]\nuser=%\n", "line 7, [a.ssh]: user: it holds a lone %; write %% for a %"),
        ("", "the file has no decky; write a section such as [decky-01]"),
    ] {
        assert_eq!(wrong(&format!("{NET}{text}")), [wanted], "{text}");
    }
    // A misspelt service makes no decky with a dot.
    let told = wrong(&format!("{NET}[a]\n[a.htpp]\nfake_app=none\n"));
    assert_eq!(
        told[0],
        "line 6, [a.htpp]: htpp is no service, so this is no section of settings; did you mean http?"
    );
    for (text, wanted) in [
        (
            "[general]\nnet=10.66.0.0\ngw=10.66.0.1\ninterface=lo\n[a]\n",
            "line 2, [general] net: 10.66.0.0 is no IPv4 network; write such as 10.66.0.0/24",
        ),
        (
            "[general]\nnet=10.66.0.0/24\ngw=10.67.0.1\ninterface=lo\n[a]\n",
            "line 3, [general] gw: 10.67.0.1 lies outside the subnet 10.66.0.0/24; write the gateway's address, from 10.66.0.1 to 10.66.0.254",
        ),
        (
            "[general]\nnet=10.66.0.0/24\ninterface=lo\n[a]\n",
            "line 1, [general]: gw is missing, and nothing is known of this machine's network; write [general] with gw = 10.66.0.1",
        ),
        (
            "[general]\nnet=10.66.0.0/30\ngw=10.66.0.1\ninterface=lo\n[a]\namount=3\n",
            "line 5, [a]: 10.66.0.0/30 has no address left for a-02, and for 1 more; write a larger net, or fewer deckies",
        ),
        (
            "[general]\nnet=10.66.0.0/31\ngw=10.66.0.1\ninterface=lo\n[a]\n",
            "line 2, [general] net: 10.66.0.0/31 has no room for a gateway and a decky; write a network of /30 or larger",
        ),
        (
            "[general]\nnet=10.66.0.0/24\ngw=10.66.0.0\ninterface=lo\n[a]\n",
            "line 3, [general] gw: 10.66.0.0 is the network's own or its broadcast address; write the gateway's address, from 10.66.0.1 to 10.66.0.254",
        ),
        (
            "[general]\nnet=10.66.0.0/24\ngw=10.66.0.255\ninterface=lo\n[a]\n",
            "line 3, [general] gw: 10.66.0.255 is the network's own or its broadcast address; write the gateway's address, from 10.66.0.1 to 10.66.0.254",
        ),
        (
            "x=1\ny=2\n[general]\nnet=10.66.0.0/24\ngw=10.66.0.1\ninterface=lo\n[a]\n",
            "line 1: x stands before the first section; write a section such as [general] above it",
        ),
    ] {
        assert_eq!(wrong(text), [wanted], "{text}");
    }
    let all = wrong(&format!("{NET}[a]\nservices=x\n[b]\namount=x\n[c.d]\n[e]\nip=x\n"));
    let lines: Vec<&str> = all.iter().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(lines, ["line 6", "line 8", "line 9", "line 11"], "{all:?}");
}

#[test]
fn what_does_nothing_is_noted() {
    assert_eq!(
        notes(&format!("{NET}gateway=10.66.0.1\n[a]\nservices=ssh\nservice=x\n[nobody.ftp]\nbanner=x\n")),
        [
            "line 5, [general]: nothing reads gateway; [general] may have net, gw, interface",
            "line 8, [a]: nothing reads service; did you mean services?",
            "line 9, [nobody.ftp]: there is no decky nobody; name a decky, or what the names of some start with before a dash",
        ]
    );
}

#[test]
fn settings_of_a_decky_come_over_those_of_its_group_in_any_order() {
    let groups = ["[g.ssh]\nuser=group\nhostname=g\n", "[g-01.ssh]\nuser=own\n"];
    for order in [[0, 1], [1, 0]] {
        let text = format!("{NET}{}{}[g]\nservices=ssh\namount=2\n", groups[order[0]], groups[order[1]]);
        let fleet = value(&read(&text).fleet);
        assert_eq!(fleet["deckies"][0]["service_config"], json!({"ssh": {"user": "own", "hostname": "g"}}));
        assert_eq!(fleet["deckies"][1]["service_config"], json!({"ssh": {"user": "group", "hostname": "g"}}));
    }
}

#[test]
fn texts_of_every_kind_are_read() {
    let crlf = format!("\u{feff}{}", format!("{NET}[a]\nservices=ssh\n").replace('\n', "\r\n"));
    assert_eq!(read(&crlf).fleet.deckies.len(), 1);
    let cr = format!("{NET}[a]\nservices=ssh\n").replace('\n', "\r");
    assert_eq!(read(&cr).fleet.deckies.len(), 1);
    let mask = format!("{NET}[a] ; a comment\nservices = %(one)s,%(two)s\none: ssh\nTWO: http\n")
        .replace("10.66.0.0/24", "10.66.0.7/255.255.255.0");
    let fleet = read(&mask).fleet;
    assert_eq!(fleet.subnet.to_string(), "10.66.0.0/24");
    assert_eq!(fleet.deckies[0].services.len(), 2);
    let told = wrong_with(b"[a]\nx=\xff\n", &settings());
    assert_eq!(told, ["line 2: it isn't UTF-8 text; save the file as UTF-8"]);
    let large = vec![b'#'; FleetConfig::MAX_INI_BYTES + 1];
    assert!(matches!(FleetConfig::from_ini(&large, &settings()), Err(FleetError::TooLarge { .. })));
    // What is read is a fleet as any other.
    let fleet = read(&format!("{NET}[a]\namount=100\n")).fleet;
    assert_eq!(FleetConfig::from_json(fleet.to_json().as_bytes()).unwrap(), fleet);
}

#[test]
fn a_small_file_can_not_ask_for_endless_work() {
    // References to references: ten times ten times ...
    let mut text = format!("{NET}[a]\n[a.ssh]\nk0=\n");
    for key in 1..=10 {
        let refers = format!("%(k{})s", key - 1).repeat(200);
        text.push_str(&format!("k{key}={refers}\n"));
    }
    let told = wrong(&text);
    assert!(told.iter().any(|line| line.contains("comes to more than a fleet can hold")), "{told:?}");
    // Settings of many keys for many deckies.
    let mut text = format!("[DEFAULT]\n{}\n{NET}", "x".repeat(1 << 19).as_str().to_owned() + "=1");
    for group in 0..100 {
        text.push_str(&format!("[g-{group}]\n[g-{group}.ssh]\n"));
    }
    let told = wrong(&text);
    assert!(told.iter().any(|line| line.contains("comes to more than a fleet can hold")), "{told:?}");
    let text = format!("{NET}{}", (0..200).map(|n| format!("[g{n}]\namount=100\n")).collect::<String>());
    let told = wrong(&text.replace("/24", "/8"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("these are more than 16384 deckies; split the fleet"), "{told:?}");
    let nonsense = wrong(&"x\n".repeat(100_000));
    assert_eq!(nonsense.len(), 100);
    assert!(nonsense.last().unwrap().contains("there is more than these 99"), "{:?}", nonsense.last());
}
