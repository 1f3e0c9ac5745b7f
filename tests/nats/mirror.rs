//! Mirrors on the real server: each change once and in order, whatever the
//! stream was, and what is refused.

use std::ops::ControlFlow;
use std::sync::Arc;

use decnet_lifecycle::bus::Bus as _;
use decnet_lifecycle::bus::nats::NatsBus;
use decnet_lifecycle::lifecycle::Revision;
use decnet_lifecycle::mirror::{MirrorError, Mirrored, NatsMirror};
use decnet_lifecycle::store::{Feed, Store};
use futures_lite::future::block_on;
use serde_json::json;

use crate::fake::{event, settings};
use crate::server::{OPEN, Server};
use crate::store::{end_and_prune, fill, filled};

fn mirror(store: &Arc<impl Store>, server: &Server) -> NatsMirror {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    NatsMirror::new(store, settings(&server.url()), "S").unwrap()
}

/// Mirrors until the stream has all; where it began.
pub fn catch_up(mirror: &NatsMirror) -> Result<Revision, MirrorError> {
    let mut began = None;
    mirror.run(|now| {
        match now {
            Mirrored::Following { after, .. } => began = Some(after),
            Mirrored::UpTo { is_all: true, .. } => return ControlFlow::Break(()),
            Mirrored::Trouble { words } => panic!("{words}"),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(began.unwrap())
}

fn all(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

#[test]
fn each_change_is_in_the_stream_once_in_order_and_as_it_is_told_elsewhere() {
    let Some(server) = Server::start(OPEN) else { return };
    let mut client = server.client();
    client.make_stream(json!({}));
    let store = filled(1_000);
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::ZERO);
    let held = client.held();
    let Feed::Entries { entries, .. } = block_on(store.changes(Revision::ZERO, 1_000)).unwrap() else {
        panic!()
    };
    assert_eq!(held.len(), 1_000);
    for (entry, (sequence, subject, message)) in entries.iter().zip(&held) {
        assert_eq!((*sequence, message), (entry.revision.get(), &entry.to_told()));
        assert_eq!(*subject, format!("decnet.feed.decky.{}", entry.decky));
    }
    // Another one goes on where the stream ends.
    fill(&*store, 1_001, 1_010);
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::new(1_000));
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::new(1_010));
    assert_eq!(client.revisions(), all(1_010));
}

#[test]
fn one_that_stays_mirrors_what_comes() {
    let Some(server) = Server::start(OPEN) else { return };
    server.client().make_stream(json!({}));
    let store = filled(1);
    let following = mirror(&store, &server);
    let mut next = 2;
    following
        .run(|now| {
            assert!(!matches!(now, Mirrored::Trouble { .. }), "{now:?}");
            if let Mirrored::UpTo { revision, is_all: true } = now
                && revision.get() + 1 == next
            {
                fill(&*store, next, next);
                next += 1;
            }
            if next > 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(server.client().revisions(), all(5));
}

#[test]
fn several_at_once_are_as_good_as_one() {
    let Some(server) = Server::start(OPEN) else { return };
    server.client().make_stream(json!({}));
    let store = filled(3_000);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| catch_up(&mirror(&store, &server)).unwrap());
        }
    });
    assert_eq!(server.client().revisions(), all(3_000));
}

#[test]
fn what_the_server_forgot_to_know_again_is_not_there_twice() {
    let Some(server) = Server::start(OPEN) else { return };
    // A window so short that no repeated message is known by its id.
    server.client().make_stream(json!({"duplicate_window": 100_000_000}));
    let store = filled(2_000);
    let slow = mirror(&store, &server);
    let mut troubles = 0;
    slow.run(|now| match now {
        // Once it has begun, another one overtakes it, and time passes.
        Mirrored::UpTo { revision, .. } if troubles == 0 && revision > Revision::ZERO => {
            catch_up(&mirror(&store, &server)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(400));
            troubles = 1;
            ControlFlow::Continue(())
        }
        Mirrored::Trouble { words } => {
            assert!(words.contains("doesn't end where it did"), "{words}");
            troubles += 1;
            ControlFlow::Continue(())
        }
        Mirrored::UpTo { is_all: true, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .unwrap();
    assert_eq!(troubles, 2);
    assert_eq!(server.client().revisions(), all(2_000));
}

#[test]
fn a_stream_that_lost_messages_gets_them_again() {
    let Some(server) = Server::start(OPEN) else { return };
    let mut client = server.client();
    client.make_stream(json!({}));
    let store = filled(10);
    catch_up(&mirror(&store, &server)).unwrap();
    // Its last two, each by itself: the place is behind those that are left.
    for sequence in [9, 10] {
        client.ask("STREAM.MSG.DELETE.S", json!({"seq": sequence}));
    }
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::new(8));
    assert_eq!(client.revisions(), all(10));
    // All of them. The server still knows their ids, and must not take these
    // for those.
    client.ask("STREAM.PURGE.S", json!({}));
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::ZERO);
    let held = client.held();
    assert_eq!((held[0].0, held.len()), (13, 10));
    assert_eq!(client.revisions(), all(10));
    // Where somebody knows better, it begins there.
    client.ask("STREAM.PURGE.S", json!({}));
    let later = mirror(&store, &server).start_after(Revision::new(7));
    assert_eq!(catch_up(&later).unwrap(), Revision::new(7));
    assert_eq!(client.revisions(), [8, 9, 10]);
}

#[test]
fn a_stream_that_is_emptied_meanwhile_goes_on() {
    let Some(server) = Server::start(OPEN) else { return };
    let mut server = server;
    server.client().make_stream(json!({}));
    let store = filled(5);
    let staying = mirror(&store, &server);
    let mut followed = Vec::new();
    staying
        .run(|now| match now {
            Mirrored::Following { after, .. } => {
                followed.push(after.get());
                ControlFlow::Continue(())
            }
            Mirrored::UpTo { is_all: true, .. } if followed.len() == 1 => {
                // As too old messages go, and a server with them for a moment.
                server.client().ask("STREAM.PURGE.S", json!({}));
                server.kill();
                server.start_again();
                fill(&*store, 6, 7);
                ControlFlow::Continue(())
            }
            Mirrored::UpTo { is_all: true, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert_eq!(followed, [0, 5]);
    assert_eq!(server.client().revisions(), [6, 7]);
}

#[test]
fn what_was_pruned_too_early_is_told_in_its_place() {
    let Some(server) = Server::start(OPEN) else { return };
    let mut client = server.client();
    client.make_stream(json!({}));
    let store = filled(2);
    catch_up(&mirror(&store, &server)).unwrap();
    let rows = fill(&*store, 3, 6);
    // Rows 1 and 2 are open, so that nothing of what follows them may go.
    end_and_prune(&*store, &rows);
    let Feed::Compacted { oldest } = block_on(store.changes(Revision::new(2), 1)).unwrap() else {
        panic!("nothing was pruned")
    };
    fill(&*store, 20, 21);
    assert_eq!(catch_up(&mirror(&store, &server)).unwrap(), Revision::new(2));
    let held = client.held();
    assert_eq!(held[2].1, "decnet.feed.compacted");
    assert_eq!(held[2].2, json!({"event": "compacted", "oldest": oldest}));
    let revisions: Vec<u64> =
        held.iter().filter_map(|(_, _, message)| message["revision"].as_u64()).collect();
    let head = block_on(decnet_lifecycle::store::head(&*store)).unwrap().get();
    assert_eq!(revisions, [1, 2].into_iter().chain(oldest.get()..=head).collect::<Vec<_>>());
    // A marker at the end is a place as well.
    let (pruned, before) = (filled(2), held.len());
    client.ask("STREAM.PURGE.S", json!({}));
    let rows = fill(&*pruned, 3, 3);
    end_and_prune(&*pruned, &rows);
    catch_up(&mirror(&pruned, &server)).unwrap();
    catch_up(&mirror(&pruned, &server)).unwrap();
    let held = client.held();
    assert_eq!((held.len(), held[0].0), (1, before as u64 + 1));
    assert_eq!(held[0].2["event"], "compacted");
}

#[test]
fn another_store_s_stream_is_refused() {
    let Some(server) = Server::start(OPEN) else { return };
    let mut client = server.client();
    client.make_stream(json!({}));
    let store = filled(5);
    catch_up(&mirror(&store, &server)).unwrap();
    let refused = |store: &Arc<_>| match catch_up(&mirror(store, &server)) {
        Err(MirrorError::Foreign { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert!(refused(&filled(4)).contains("ends at revision 5 and the store at 4"));
    let other = filled(0);
    fill(&*other, 11, 20);
    assert!(refused(&other).contains("revision 5 is another change"));
    // A store that goes back while it is mirrored is another one, too.
    client.publish("decnet.feed.x", "{\"event\":\"change\"}");
    assert!(refused(&store).contains("nothing that a mirror says"));
    assert_eq!(client.held().len(), 6);
}

#[test]
fn a_server_or_a_stream_that_will_not_do_is_told_with_what_to_do() {
    let Some(server) = Server::start("") else { return };
    let store = filled(1);
    let said = |server: &Server| catch_up(&mirror(&store, server)).unwrap_err().to_string();
    assert!(said(&server).contains("no JetStream"), "{}", said(&server));
    let Some(server) = Server::start(OPEN) else { return };
    let mut client = server.client();
    assert!(said(&server).contains("has no stream S: make one for the subjects decnet.feed.>"));
    for (config, words) in [
        (json!({"subjects": ["decnet.feed.decky.*"]}), "don't cover decnet.feed.>"),
        (json!({"retention": "workqueue"}), "retention is workqueue"),
        (json!({"no_ack": true}), "no_ack"),
    ] {
        client.make_stream(config);
        assert!(said(&server).contains(words), "{}", said(&server));
        client.ask("STREAM.DELETE.S", json!({}));
    }
    client.make_stream(json!({"subjects": ["*.feed.>", "x"]}));
    assert_eq!(said_well(&store, &server), Revision::ZERO);
    for name in ["", "a.b", "a b", "a>", &"a".repeat(65)] {
        let store: Arc<dyn Store> = store.clone();
        assert!(NatsMirror::new(store, settings(&server.url()), name).is_err(), "{name}");
    }
}

fn said_well(store: &Arc<impl Store>, server: &Server) -> Revision {
    catch_up(&mirror(store, server)).unwrap()
}

#[test]
fn the_bus_is_heard_by_who_subscribes() {
    let Some(server) = Server::start("") else { return };
    let mut client = server.client();
    client.subscribe("site.decnet.decky.*.lifecycle");
    let bus = NatsBus::new(settings(&(server.url() + "?prefix=site.decnet")), 64);
    for number in 0..50 {
        bus.publish(&event(number));
    }
    drop(bus);
    for number in 0..50 {
        let (subject, said) = client.next();
        assert_eq!(subject, "site.decnet.decky.decky-01.lifecycle");
        let id = decnet_lifecycle::LifecycleId::from_u128(number).to_string();
        assert!(said.contains(&id) && said.contains("\"type\":\"lifecycle\""), "{said}");
    }
}
