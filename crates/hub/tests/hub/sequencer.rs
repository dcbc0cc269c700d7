//! Statements, entries, checkpoints, cosignatures.

use std::time::Duration;

use hub::Hub;
use record::{EntryBytes, HubInfo, SecretKey, SignedCheckpoint, SignedStatement, Standing, Statement};
use wire::WireError;
use wire::api::{Have, Sync};

use crate::members::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_members_say_comes_into_force_at_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));

    let receipt = gb.submit(&members[0].note("hello")).await.unwrap();
    receipt.verify(&served.info.key).unwrap();
    assert_eq!((receipt.index, receipt.origin.as_str()), (3, "comity/stroke"));

    let mut last = Sync::default();
    while last.size < 4 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    // Held until the second cosignature makes the quorum.
    let have = Have { size: 4, ..Have::default() };
    let waiting = {
        let gb = gb.clone();
        tokio::spawn(async move { gb.sync(have, Duration::from_secs(20)).await })
    };
    members[0].follow(&gb, &last).await;
    assert_eq!(gb.sync(have, Duration::ZERO).await.unwrap().sealed, 0);
    members[1].follow(&ch, &last).await;
    let sealed = soon(waiting).await.unwrap().unwrap();
    assert_eq!((sealed.size, sealed.sealed, sealed.sealed_checkpoint), (4, 4, None));

    let checkpoint = SignedCheckpoint::parse(&sealed.checkpoint.unwrap()).unwrap();
    for member in &members {
        assert_eq!(member.log.roster().charter_digest, Some(charter));
        assert!(member.log.voids().is_empty() && member.log.roster().in_force());
        assert!(matches!(member.log.standing(&checkpoint).unwrap(), Standing::InForce(_)));
    }
    assert_eq!(gb.checkpoint().await.unwrap(), Some(checkpoint.to_note()));
    let tile = gb.client().get("/tile/0/000.p/4", 1000).await.unwrap();
    let leaves: Vec<u8> = (0..4).flat_map(|i| *members[0].log.tree().leaf(i).unwrap().as_bytes()).collect();
    assert_eq!(tile, leaves);
    let bundle = gb.client().get("/tile/entries/000.p/4", 100_000).await.unwrap();
    let entries: Vec<Vec<u8>> = members[0].log.entries().iter().map(EntryBytes::to_bytes).collect();
    assert_eq!(bundle, record::tree::entry_bundle(entries.iter().map(Vec::as_slice)).unwrap());
    assert_eq!(refused(gb.client().get("/tile/0/000.p/5", 1000).await).0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_said_twice_stands_once_with_one_receipt_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let note = members[0].note("once");
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let both = tokio::join!(gb.submit(&note), ch.submit(&note));
    let first = both.0.unwrap();
    assert_eq!(first, both.1.unwrap());
    assert_eq!(served.hub.size(), 4);
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch));
    drop(served.hub);
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    assert_eq!(members[0].client(&served).submit(&note).await.unwrap(), first);
    assert_eq!(served.hub.size(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_an_index_each_under_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let gb = members[0].client(&served);
    let notes: Vec<_> = (0..200).map(|i| members[0].note(&format!("n{i}"))).collect();
    let tasks: Vec<_> = notes
        .into_iter()
        .map(|note| {
            let gb = gb.clone();
            tokio::spawn(async move { gb.submit(&note).await.unwrap() })
        })
        .collect();
    let mut indices = Vec::new();
    for task in tasks {
        indices.push(task.await.unwrap().index);
    }
    indices.sort_unstable();
    assert_eq!(indices, (3..203).collect::<Vec<_>>());
    let mut last = Sync::default();
    while last.size < 203 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    members[0].follow(&gb, &last).await; // recomputes the root
    assert_eq!(members[0].log.size(), 203);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_charter_only_its_own_member_may_propose_it_and_only_for_this_hub() {
    let dir = tempfile::tempdir().unwrap();
    let members = pair();
    let served = serve(Hub::create(dir.path(), &config()).unwrap()).await;
    let outsider = Member::new("zz", 90);
    let all: Vec<&Member> = members.iter().collect();
    let proposal = |info: &HubInfo| {
        members[0].says("charter.propose@1", "charter", &Propose { charter: charter(info, &all) })
    };
    let honest = proposal(&served.info);

    let stranger = outsider.client(&served);
    assert_eq!(stranger.sync(Have::default(), Duration::ZERO).await.unwrap(), Sync::default());
    assert_eq!(refused(stranger.submit(&honest).await).0, 403);
    assert_eq!(refused(stranger.submit(&outsider.note("first")).await).0, 422);
    assert_eq!(refused(stranger.put_blob(b"x".to_vec()).await).0, 403);
    let elsewhere = HubInfo { key: SecretKey::from_seed([99; 32]).public(), ..served.info.clone() };
    assert_eq!(refused(members[0].client(&served).submit(&proposal(&elsewhere)).await).0, 422);
    assert_eq!(served.hub.size(), 0);

    members[0].client(&served).submit(&honest).await.unwrap();
    // From here on strangers are not even connected; the connection that was open answers no.
    assert_eq!(refused(stranger.sync(Have::default(), Duration::ZERO).await).0, 403);
    let again = outsider.client(&served).checkpoint().await.unwrap_err();
    assert!(matches!(again, WireError::NotAdmitted { .. }), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn void_malformed_and_oversized_statements_are_refused_with_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, charter) = federation(dir.path(), &mut members).await;
    let gb = members[0].client(&served);
    let forged = SignedStatement::sign(
        Statement::new("note.add@1", "x", "ch", "node", &serde_map(&[])).unwrap(),
        &members[0].sign(),
    )
    .unwrap();
    let (status, why) = refused(gb.submit(&forged).await);
    assert!(status == 422 && why.contains("`ch` is not signed"), "{why}");
    let outsider = Member::new("zz", 90);
    assert_eq!(refused(gb.submit(&outsider.note("x")).await).0, 422);
    let twice = members[0].says("charter.sign@1", "again", &Sign { charter });
    assert_eq!(refused(gb.submit(&twice).await).0, 422);
    let mut bytes = members[0].note("x").to_bytes();
    *bytes.last_mut().unwrap() = b' ';
    assert_eq!(refused(gb.submit_bytes(bytes).await).0, 400);
    assert_eq!(refused(gb.client().post("/v1/submit", vec![b'x'; 70_000], 9999).await).0, 413);
    assert_eq!(refused(gb.client().get("/v1/entries?from=0", 9999).await).0, 400);
    assert_eq!(refused(gb.client().get("/v1/entries?from=0&to=99", 9999).await).0, 404);
    assert_eq!(refused(gb.client().get("/v1/nothing", 9999).await).0, 404);
    assert_eq!(refused(gb.client().get("/v1/submit", 9999).await).0, 404);
    assert_eq!(served.hub.size(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cosignature_counts_only_by_its_member_for_a_checkpoint_of_this_hub() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = pair();
    let (served, _) = federation(dir.path(), &mut members).await;
    let (gb, ch) = (members[0].client(&served), members[1].client(&served));
    let mut last = Sync::default();
    while last.size < 3 {
        last = soon(gb.sync(Have { size: last.size, ..Have::default() }, SOON)).await.unwrap();
    }
    members[0].follow(&gb, &last).await;
    let note = SignedCheckpoint::parse(&last.checkpoint.unwrap()).unwrap();
    let line = |key: &SecretKey, name: &str| {
        record::Cosignature::sign(note.checkpoint(), name, 1_700_000_001, key).unwrap().to_line()
    };
    let ch_key = members[1].key(1);
    assert_eq!(refused(gb.cosign(3, &line(&ch_key, "ch")).await).0, 403);
    assert_eq!(refused(ch.cosign(3, &line(&members[0].key(1), "ch")).await).0, 422);
    assert_eq!(refused(ch.cosign(9, &line(&ch_key, "ch")).await).0, 409);
    assert_eq!(refused(ch.cosign(3, "— ch nonsense\n").await).0, 400);
    assert_eq!(gb.sync(Have::default(), Duration::ZERO).await.unwrap().sealed, 0);
    ch.cosign(3, &line(&ch_key, "ch")).await.unwrap();
    assert_eq!(gb.sync(Have::default(), Duration::ZERO).await.unwrap().sealed, 3);
    // A later cosignature of the same checkpoint keeps the watermark young.
    let fresh = record::Cosignature::sign(note.checkpoint(), "ch", 1_700_000_900, &ch_key).unwrap().to_line();
    ch.cosign(3, &fresh).await.unwrap();
    assert!(gb.checkpoint().await.unwrap().unwrap().contains(fresh.trim_end()));
    // What was sealed is sealed after a restart.
    served.hub.stop();
    served.task.await.unwrap().unwrap();
    drop((gb, ch, served.hub));
    let served = serve(Hub::open(dir.path()).unwrap()).await;
    let restored = members[0].client(&served).sync(Have::default(), Duration::ZERO).await.unwrap();
    assert_eq!((restored.size, restored.sealed), (3, 3));
    assert!(restored.checkpoint.unwrap().contains(fresh.trim_end()));
}
