//! No seed may break a law; each planted bug must.

use super::simulation::{Outside, World};
use super::{Action, Config, Event, Message, Raft, Role};

/// Simulated lives; every one is different.
const SEEDS: u64 = 1000;

#[test]
fn no_seed_breaks_the_laws() {
    let (mut committed, mut reads, mut snapshots) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed, if seed % 3 == 0 { 3 } else { 5 }, Outside::default(), |_| {});
        world
            .run(3000)
            .and_then(|()| world.settle())
            .and_then(|()| world.check_logs())
            .unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        let commits: Vec<u64> = world.members.iter().flatten().map(Raft::commit).collect();
        assert!(commits.iter().all(|commit| *commit == commits[0]), "seed {seed}: in calm all agree: {commits:?}");
        committed += commits[0];
        reads += world.reads_answered;
        snapshots += world.snapshots_restored;
    }
    // A simulation in which nothing happens would prove nothing.
    assert!(committed > SEEDS * 100, "entries committed: {committed}");
    assert!(reads > SEEDS * 10, "reads answered: {reads}");
    assert!(snapshots > SEEDS, "snapshots restored: {snapshots}");
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let life = |seed| {
        let mut world = World::new(seed, 5, Outside::default(), |_| {});
        world.run(1000).unwrap();
        let state = |raft: &Raft| (raft.term(), raft.role(), raft.commit(), raft.log().last_index());
        world.members.iter().map(|member| member.as_ref().map(state)).collect::<Vec<_>>()
    };
    assert_eq!(life(3), life(3));
    assert_ne!(life(3), life(4));
}

/// The law that some seed breaks.
fn broken(outside: Outside, change: impl Fn(&mut Config)) -> String {
    (0..2000)
        .find_map(|seed| World::new(seed, 5, outside, &change).run(6000).err())
        .expect("a planted bug must break a law in some seed")
}

#[test]
fn commit_on_minority_is_found() {
    broken(Outside::default(), |config| config.commit_on_minority = true);
}

#[test]
fn commit_old_term_is_found() {
    broken(Outside::default(), |config| config.commit_old_term = true);
}

#[test]
fn forget_vote_is_found() {
    broken(Outside { forget_vote: true, ..Outside::default() }, |_| {});
}

#[test]
fn no_fsync_is_found() {
    broken(Outside { no_fsync: true, ..Outside::default() }, |_| {});
}

#[test]
fn stale_read_is_found() {
    let what = broken(Outside { stale_read: true, ..Outside::default() }, |_| {});
    assert!(what.starts_with("read:"), "{what}");
}

/// A calm cluster of three and its leader.
fn calm() -> (World, usize) {
    let mut world = World::new(5, 3, Outside::default(), |_| {});
    world.settle().unwrap();
    let leader = world.members.iter().flatten().find(|m| m.role() == Role::Leader).and_then(Raft::leader).unwrap();
    (world, leader)
}

#[test]
fn a_read_waits_for_a_majority() {
    let (mut world, leader) = calm();
    let raft = world.members[leader].as_mut().unwrap();
    let actions = raft.step(world.now, Event::Read { token: 9 });
    assert!(actions.is_empty(), "nobody has confirmed yet: {actions:?}");
    let sent = raft.step(world.now, Event::Flush);
    let round = sent.iter().find_map(|action| match action {
        Action::Send { message: Message::Append { round, .. }, .. } => Some(*round),
        _ => None,
    });
    let (term, commit) = (raft.term(), raft.commit());
    let reply = |round| Message::AppendReply { term, success: true, prev_index: commit, matched: commit, round };
    let other = (leader + 1) % 3;
    let mut receive = |round| raft.step(world.now, Event::Receive { from: other, message: reply(round) });
    assert!(receive(round.unwrap() - 1).is_empty(), "an answer to a round before the read");
    assert!(receive(round.unwrap()).contains(&Action::ReadAt { token: 9, index: commit }));
}

#[test]
fn a_working_leader_is_not_deposed() {
    let (mut world, leader) = calm();
    let from = (leader + 1) % 3;
    let last_index = 1 << 40;
    for id in (0..3).filter(|id| *id != from) {
        let raft = world.members[id].as_mut().unwrap();
        let (term, role) = (raft.term(), raft.role());
        let vote = Message::Vote { term: term + 5, last_index, last_term: term + 4, transfer: false };
        assert!(raft.step(world.now, Event::Receive { from, message: vote }).is_empty());
        let pre = Message::PreVote { term: term + 1, last_index, last_term: term };
        let actions = raft.step(world.now, Event::Receive { from, message: pre });
        let refusal = Message::PreVoteReply { term, granted: false };
        assert_eq!(actions, [Action::Send { to: from, message: refusal }]);
        assert_eq!((raft.term(), raft.role()), (term, role));
    }
}

#[test]
fn leadership_is_handed_over() {
    let (mut world, leader) = calm();
    let (to, term) = ((leader + 1) % 3, world.members[leader].as_ref().unwrap().term());
    world.step(leader, Event::Transfer { to }).unwrap();
    let refused =
        world.members[leader].as_mut().unwrap().step(world.now, Event::Propose { token: 7, data: "x".into() });
    assert_eq!(refused, [Action::Refused { token: 7 }], "nothing new enters the log meanwhile");
    // Sooner than anybody would stand by itself.
    world.calm(60).unwrap();
    let raft = world.members[to].as_ref().unwrap();
    assert_eq!((raft.role(), raft.term()), (Role::Leader, term + 1));
}

#[test]
fn a_transfer_to_a_dead_member_is_given_up() {
    let (mut world, leader) = calm();
    let to = (leader + 1) % 3;
    world.members[to] = None;
    world.step(leader, Event::Transfer { to }).unwrap();
    world.calm(150).unwrap();
    let raft = world.members[leader].as_mut().unwrap();
    assert_eq!(raft.role(), Role::Leader);
    let accepted = raft.step(world.now, Event::Propose { token: 7, data: "x".into() });
    assert!(accepted.iter().any(|action| matches!(action, Action::Accepted { token: 7, .. })), "{accepted:?}");
}

/// Raft, section 5.4.1; pre-votes, which ask the same, would hide it from the simulation.
#[test]
fn votes_only_for_who_has_it_all() {
    let (mut world, leader) = calm();
    let voter = (leader + 1) % 3;
    let raft = world.members[voter].clone().unwrap();
    let (term, last_index, last_term) = (raft.term() + 1, raft.log().last_index(), raft.log().last_term());
    // Long after it heard of its leader.
    world.now += 1000;
    for (index, of, granted) in [
        (last_index, last_term, true),
        (last_index + 9, last_term, true),
        (1, last_term + 1, true),
        (last_index - 1, last_term, false),
        (last_index + 9, last_term - 1, false),
    ] {
        let message = Message::Vote { term, last_index: index, last_term: of, transfer: false };
        let actions = raft.clone().step(world.now, Event::Receive { from: leader, message });
        let saved =
            actions.iter().position(|action| matches!(action, Action::Save { hard, .. } if hard.vote.is_some()));
        let reply = Action::Send { to: leader, message: Message::VoteReply { term, granted } };
        let sent = actions.iter().position(|action| *action == reply);
        assert!(sent.is_some(), "entry {index} of term {of}: {actions:?}");
        assert_eq!(saved.is_some(), granted);
        assert!(saved <= sent, "a vote is saved before it is sent");
    }
}
