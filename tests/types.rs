//! The plain types: names, ids, times, failures, records, queries.

use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::{
    bus::NullBus,
    decide::{Batch, Change, Insert},
    journal::Journal,
    lifecycle::{AnyLifecycle, MasterName, Owner, Phase, Revision},
    store::{Cursor, Entry, MemoryStore, Query, Store},
    *,
};
use futures_lite::future::block_on;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn failure() -> Failure {
    Failure::new(FailureKind::Engine, "no")
}

fn phases() -> [Phase; 5] {
    [
        Phase::Pending { deadline: at(100) },
        Phase::Running { since: at(2), deadline: at(100) },
        Phase::Succeeded { since: at(2), at: at(3) },
        Phase::Failed { since: Some(at(2)), at: at(3), failure: failure() },
        Phase::Failed { since: None, at: at(3), failure: failure() },
    ]
}

fn record(phase: Phase) -> Record {
    Record {
        id: LifecycleId::from_u128(7),
        decky: DeckyName::parse("a").unwrap(),
        host: Some(HostId::parse("w1").unwrap()),
        operation: Operation::Deploy,
        phase,
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 3 },
        created_at: at(1),
        updated_at: at(3),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::new(9),
    }
}

#[test]
fn only_the_arrows_of_the_graph_are_legal() {
    let legal = [(0, 1), (0, 4), (1, 2), (1, 3)];
    for (from, before) in phases().into_iter().enumerate() {
        for (to, after) in phases().into_iter().enumerate() {
            let allowed = record(before.clone()).may_become(&record(after));
            assert_eq!(allowed, legal.contains(&(from, to)), "{from} -> {to}");
        }
    }
}

#[test]
fn a_step_changes_the_phase_and_nothing_that_the_row_is() {
    let [pending, running, succeeded, failed, _] = phases();
    let before = record(running.clone());
    let next = record(succeeded);
    assert!(before.may_become(&next));
    let later = Record { updated_at: at(4), claimed_completion: Some(at(9)), ..next.clone() };
    assert!(before.may_become(&later));
    for other in [
        Record { id: LifecycleId::from_u128(8), ..next.clone() },
        Record { decky: DeckyName::parse("b").unwrap(), ..next.clone() },
        Record { host: None, ..next.clone() },
        Record { operation: Operation::Mutate, ..next.clone() },
        Record { owner: Owner { epoch: 4, ..next.owner.clone() }, ..next.clone() },
        Record { created_at: at(0), ..next.clone() },
        Record { key: Some(RequestKey::parse("k").unwrap()), ..next.clone() },
        Record { cancel_requested_at: Some(at(3)), ..next.clone() },
        Record { updated_at: at(2), ..next.clone() },
        Record { phase: Phase::Succeeded { since: at(1), at: at(3) }, ..next.clone() },
        Record { phase: Phase::Failed { since: Some(at(1)), at: at(3), failure: failure() }, ..next.clone() },
        Record { phase: Phase::Failed { since: None, at: at(3), failure: failure() }, ..next.clone() },
    ] {
        assert!(!before.may_become(&other), "{other:?}");
    }
    assert!(!record(pending).may_become(&record(failed)), "a pending row has never run");
}

#[test]
fn a_record_says_where_it_is() {
    let told: Vec<_> = phases()
        .into_iter()
        .map(|phase| {
            let row = record(phase);
            (
                row.status(),
                row.is_open(),
                row.deadline(),
                row.running_since(),
                row.completed_at(),
                row.failure().cloned(),
            )
        })
        .collect();
    let expected = [
        (Status::Pending, true, Some(at(100)), None, None, None),
        (Status::Running, true, Some(at(100)), Some(at(2)), None, None),
        (Status::Succeeded, false, None, Some(at(2)), Some(at(3)), None),
        (Status::Failed, false, None, Some(at(2)), Some(at(3)), Some(failure())),
        (Status::Failed, false, None, None, Some(at(3)), Some(failure())),
    ];
    assert_eq!(told, expected);
    let entry = Entry::of(&Record { cancel_requested_at: Some(at(2)), ..record(phases()[3].clone()) });
    assert_eq!((entry.revision, entry.at, entry.cancel_requested), (Revision::new(9), at(3), true));
    assert_eq!((entry.status, entry.failure), (Status::Failed, Some(failure())));
}

#[test]
fn words_are_those_of_the_wire() {
    let statuses = [Status::Pending, Status::Running, Status::Succeeded, Status::Failed];
    assert_eq!(statuses.map(|status| status.to_string()), ["pending", "running", "succeeded", "failed"]);
    let operations = [Operation::Deploy, Operation::Mutate, Operation::Teardown];
    assert_eq!(operations.map(|operation| operation.to_string()), ["deploy", "mutate", "teardown"]);
    assert_eq!(format!("{:>8}|{:<8}", Status::Failed, Operation::Mutate), "  failed|mutate  ");
    use FailureKind::*;
    let kinds = [
        Engine,
        Dispatch,
        Rejected,
        Deadline,
        Superseded,
        Cancelled,
        MasterRestarted,
        WorkerLost,
        Panic,
        Reported,
        Abandoned,
    ];
    for kind in kinds {
        assert_eq!(kind.to_string(), format!("{kind:?}"));
        assert_eq!(kind.as_str(), kind.to_string());
    }
    assert_eq!(Revision::new(41).next().to_string(), "42");
    assert_eq!(Revision::new(u64::MAX).next(), Revision::new(u64::MAX));
    let id = LifecycleId::from_u128(0x0193_7b2c_5a7e_7000_8000_0123_4567_89ab);
    assert_eq!(id.to_string(), "01937b2c-5a7e-7000-8000-0123456789ab");
    assert_eq!(format!("{id:?}"), id.to_string());
    assert_eq!(id.as_u128(), 0x0193_7b2c_5a7e_7000_8000_0123_4567_89ab);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!("01937b2c".parse::<LifecycleId>().unwrap_err().to_string().contains("is a UUID"));
}

#[test]
fn an_id_carries_its_time_and_version() {
    let id = LifecycleId::from_parts(at(1_767_225_600), [0xff; 10]);
    assert_eq!((id.as_u128() >> 80) as u64, 1_767_225_600_000);
    assert_eq!(id.to_string().as_bytes()[14], b'7');
    assert_eq!(LifecycleId::from_parts(at(-5), [1; 10]).as_u128() >> 80, 0);
}

#[test]
fn times_move_and_read_back() {
    let time = at(10);
    assert_eq!((time.as_micros(), Timestamp::default().as_micros()), (10_000_000, 0));
    assert_eq!((time.plus(Duration::from_secs(5)), time.minus(Duration::from_secs(5))), (at(15), at(5)));
    assert_eq!((at(15).since(time), time.since(at(15))), (Duration::from_secs(5), Duration::ZERO));
    let far = Timestamp::from_micros(i64::MAX - 1);
    assert_eq!(far.plus(Duration::MAX).as_micros(), i64::MAX);
    assert_eq!(Timestamp::from_micros(i64::MIN + 1).minus(Duration::MAX).as_micros(), i64::MIN);
    assert_eq!(Timestamp::from_micros(i64::MIN).since(far), Duration::ZERO);
    assert_eq!(time.to_string(), "1970-01-01T00:00:10.000000Z");
    assert_eq!(format!("{time:?}"), time.to_string());
    assert_eq!(far.to_string(), format!("{}us", i64::MAX - 1));
    assert_eq!("1970-01-01T01:00:10+01:00".parse(), Ok(time));
    assert!("ten".parse::<Timestamp>().unwrap_err().to_string().contains("2026-11-24T04:45:39Z"));
}

#[test]
fn names_are_checked_at_the_edge() {
    for good in ["a", "decky-01", "0", "DC01", "web_server", "Print-HQ", "a_", &"x".repeat(63)] {
        let name = DeckyName::parse(good).unwrap();
        assert_eq!(
            (name.as_str(), name.to_string().as_str(), format!("{name:?}")),
            (good, good, format!("{good:?}"))
        );
        assert_eq!(good.parse::<DeckyName>(), Ok(name.clone()));
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, format!("{good:?}"));
        assert_eq!(serde_json::from_str::<DeckyName>(&json).unwrap(), name);
    }
    let told = |text: &str| DeckyName::parse(text).unwrap_err().to_string();
    assert_eq!(told(""), "a decky name can't be empty");
    assert_eq!(told(&"x".repeat(64)), "a decky name has at most 63 characters, this one has 64");
    assert_eq!(told("a+b"), "a decky name is made of letters, digits, '-' and '_'; '+' is not one of them");
    assert_eq!(told("-a"), "a decky name can't start with '-'");
    assert_eq!(told("_a"), "a decky name can't start with '_': no container could be called so");
    let split = "a decky name can't hold a '.': topics and file names are split at dots";
    assert_eq!((told("a.b"), told("..")), (split.to_owned(), split.to_owned()));
    assert!(["a b", "é", "a/b", "a%2fb", "a*", "a>"].iter().all(|text| DeckyName::parse(text).is_err()));
    assert!(serde_json::from_str::<DeckyName>("\"a.b\"").is_err());
    assert!(
        ["W1", "a_b.c-d"].iter().all(|text| HostId::parse(text).is_ok() && MasterName::parse(text).is_ok())
    );
    assert!(
        ["a b", "a/b"].iter().all(|text| HostId::parse(text).is_err() && MasterName::parse(text).is_err())
    );
    assert!(ServiceName::parse("docker_api").is_ok() && ServiceName::parse("docker.api").is_err());
    assert!(ServiceName::parse("a-1").is_ok() && ServiceName::parse("A").is_err());
    assert!(RequestKey::parse(&"~".repeat(128)).is_ok() && RequestKey::parse(&"~".repeat(129)).is_err());
    assert!(RequestKey::parse("a b").is_err() && RequestKey::parse("a/b?c=d").is_ok());
}

#[test]
fn a_failure_is_safe_to_show_whatever_it_was_made_of() {
    let shown = |message: &str| Failure::new(FailureKind::Reported, message).to_string();
    assert_eq!(
        shown("a\u{1b}[31mb\u{7}\r\n\tc\u{202e}d\u{200b}\u{feff}\u{61c}\u{2066}"),
        "Reported: a[31mb\\n cd"
    );
    assert_eq!(shown("  padded \n"), "Reported: padded");
    let long = Failure::new(FailureKind::MasterRestarted, &"é".repeat(9_000));
    assert_eq!(long.to_string().chars().count(), Failure::MAX_LEN);
    assert!(long.message().chars().all(|c| c == 'é'));
    assert_eq!(long.kind(), FailureKind::MasterRestarted);
    assert_eq!(format!("{:?}", failure()), "Failure(\"Engine: no\")");
    // What a store or a peer hands in is made safe again.
    let raw = serde_json::json!({ "kind": "Engine", "message": "token=abc\u{1b}" });
    let read: Failure = serde_json::from_value(raw).unwrap();
    assert_eq!(read.message(), "token=[scrubbed]");
    assert!(serde_json::from_value::<Failure>(serde_json::json!({ "kind": "Bad", "message": "" })).is_err());
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    let hidden = |message: &str| Failure::new(FailureKind::Engine, message).message().to_owned();
    for (given, wanted) in [
        ("basic auth: Authorization: Basic abc==", "basic auth: Authorization: [scrubbed]"),
        ("bearer: xyz, then", "bearer: [scrubbed], then"),
        ("\"Bearer\" xyz) done", "\"Bearer\" [scrubbed]) done"),
        ("db_pass=1 pass: 2 bypass=3", "db_pass=[scrubbed] pass: 2 bypass=3"),
        ("my_secret is hunter2 now", "my_secret is [scrubbed] now"),
        ("--token => abc go", "--token => [scrubbed] go"),
        ("a=1,password=x", "a=1,password=[scrubbed]"),
        ("time: 12:30 url=http://h:80/p", "time: 12:30 url=http://h:80/p"),
        ("ftp://u@h/ and http://u:p@h/", "ftp://[scrubbed]@h/ and http://[scrubbed]@h/"),
        ("http://h/a:b@c", "http://h/a:b@c"),
        ("a -----BEGIN X----- b", "a [scrubbed]"),
        (
            "a -----BEGIN X-----b-----END X----- c -----BEGIN Y-----d-----END Y-----e",
            "a [scrubbed] c [scrubbed]e",
        ),
        ("the password", "the password"),
        ("tokens are cheap", "tokens are cheap"),
        ("--password\n\tx y", "--password\\n [scrubbed] y"),
    ] {
        assert_eq!(hidden(given), wanted, "{given}");
    }
}

#[test]
fn a_query_matches_by_each_of_its_parts() {
    let [pending, running, succeeded, ..] = phases();
    let (pending, running, succeeded) = (record(pending), record(running), record(succeeded));
    let decky = |name| Query::new().decky(DeckyName::parse(name).unwrap());
    let host = |name| Query::new().host(HostId::parse(name).unwrap());
    assert!(Query::default().matches(&pending) && Query::new() == Query::default());
    assert!(decky("a").matches(&pending) && !decky("b").matches(&pending));
    assert!(host("w1").matches(&pending) && !host("w2").matches(&pending));
    assert!(!host("w1").matches(&Record { host: None, ..pending.clone() }));
    let operation = |operation| Query::new().operation(operation).matches(&pending);
    assert!(operation(Operation::Deploy) && !operation(Operation::Mutate));
    let status = |status| Query::new().status(status).matches(&running);
    assert!(status(Status::Running) && !status(Status::Pending));
    assert!(Query::new().open().matches(&running) && !Query::new().open().matches(&succeeded));
    let due = |seconds, row: &Record| Query::new().due_by(at(seconds)).matches(row);
    assert!(due(100, &running) && !due(99, &running) && !due(1_000, &succeeded));
    assert_eq!([0, 5, 9_999].map(|limit| Query::new().limit(limit).page_size()), [1, 5, Query::MAX_LIMIT]);
}

#[test]
fn a_cursor_keeps_the_place_in_either_order() {
    let row = |number: u128, deadline: i64| {
        let id = LifecycleId::from_u128(number);
        Record { id, ..record(Phase::Pending { deadline: at(deadline) }) }
    };
    let query = Query::new();
    let here = query.clone().after(Some(query.cursor_at(&row(5, 50))));
    assert_eq!([4, 5, 6].map(|id| here.is_past_cursor(&row(id, 0))), [true, false, false]);
    let query = Query::new().due_by(at(1_000));
    let cursor = query.cursor_at(&row(5, 50));
    let here = query.clone().after(Some(cursor));
    let places = [(4, 50), (5, 50), (6, 50), (1, 51), (9, 49)];
    assert_eq!(places.map(|(id, due)| here.is_past_cursor(&row(id, due))), [false, false, true, true, false]);
    assert!(query.is_past_cursor(&row(1, 1)));
    let text = cursor.to_string();
    assert_eq!(text, format!("50000000.{:032x}", 5));
    assert_eq!(text.parse(), Ok(cursor));
    let id = format!("{:032x}", 0xabcd);
    assert!(id.parse::<Cursor>().is_ok());
    for bad in [
        "",
        "x",
        &id[1..],
        &id.to_uppercase(),
        &format!("x.{id}"),
        &format!("1.2.{id}"),
        &format!("+{}", &id[1..]),
    ] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    assert!("".parse::<Cursor>().unwrap_err().to_string().contains("unchanged"));
}

#[test]
fn a_handle_tells_what_its_row_is_and_a_transition_what_it_will_be() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let journal = Journal::new(Arc::clone(&store), Arc::new(NullBus));
    let fresh = Record { updated_at: at(1), revision: Revision::ZERO, ..record(phases()[0].clone()) };
    let insert = Change::Insert(Box::new(Insert::new(fresh.clone(), Overlap::Reject)));
    let _ = block_on(store.commit(Batch::all_or_none(vec![insert]))).unwrap();
    let load = || block_on(journal.load(fresh.id)).unwrap().unwrap();

    let AnyLifecycle::Pending(row) = load() else { panic!("not pending") };
    assert_eq!((row.id(), row.decky(), row.host()), (fresh.id, &fresh.decky, fresh.host.as_ref()));
    assert_eq!(
        (row.operation(), row.revision(), row.created_at()),
        (Operation::Deploy, Revision::new(1), at(1))
    );
    assert_eq!(format!("{row:?}"), format!("Lifecycle<pending>({}, a)", fresh.id));
    // A clock that stepped back takes no row back; a deadline is never before its start.
    let step = row.start(at(-50), at(-60));
    assert_eq!(format!("{step:?}"), format!("Transition<pending -> running>({}, a)", fresh.id));
    assert_eq!(step.next().phase, Phase::Running { since: at(1), deadline: at(1) });
    let row = step.abandon();
    assert_eq!(row.record().status(), Status::Pending);
    let row = block_on(journal.commit(row.start(at(5), at(90)))).unwrap();
    assert_eq!(
        (row.since(), row.revision(), row.record().deadline()),
        (at(5), Revision::new(2), Some(at(90)))
    );
    assert_eq!(row.hand_over(), fresh.id);

    let AnyLifecycle::Running(row) = load() else { panic!("not running") };
    let step = row.fail(failure(), at(7)).claiming(Some(at(6)));
    assert_eq!(step.next().claimed_completion, Some(at(6)));
    let row = step.abandon();
    let row = block_on(journal.commit(row.succeed(at(8)).claiming(Some(at(9))))).unwrap();
    assert_eq!((row.completed_at(), row.record().claimed_completion), (at(8), Some(at(9))));
    let any = load();
    assert_eq!(any.record(), row.record());
    assert!(matches!(any, AnyLifecycle::Succeeded(_)));

    let other = Record { id: LifecycleId::from_u128(70), ..fresh };
    let insert = Change::Insert(Box::new(Insert::new(other.clone(), Overlap::Reject)));
    let _ = block_on(store.commit(Batch::all_or_none(vec![insert]))).unwrap();
    let Some(AnyLifecycle::Pending(row)) = block_on(journal.load(other.id)).unwrap() else {
        panic!("not pending")
    };
    assert!(matches!(block_on(journal.load(LifecycleId::from_u128(71))), Ok(None)));
    let row = block_on(journal.commit(row.fail(failure(), at(4)))).unwrap();
    assert_eq!((row.completed_at(), row.failure()), (at(4), Some(&failure())));
}
