//! Queues against a naive model, and the rules one by one.

extern crate std;
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn queues(cpus: usize, priorities: &[u32]) -> RunQueues {
    let mut queues = RunQueues::new();
    queues.set_cpus(cpus).unwrap();
    for (number, &priority) in priorities.iter().enumerate() {
        queues.admit(ThreadNo(number as u32), priority, 0).unwrap();
    }
    queues
}

#[test]
fn threads_of_one_priority_take_turns() {
    let mut queues = queues(1, &[16, 16]);
    queues.ready(ThreadNo(0));
    queues.ready(ThreadNo(1));
    assert_eq!(queues.decide(0, 0), Some(ThreadNo(0)));
    assert_eq!(queues.quantum_end(0), Some(QUANTUM_NS));
    assert_eq!(queues.decide(0, QUANTUM_NS - 1), Some(ThreadNo(0)));
    assert_eq!(queues.decide(0, QUANTUM_NS), Some(ThreadNo(1)));
    queues.give_way(0);
    assert_eq!(queues.decide(0, QUANTUM_NS + 1), Some(ThreadNo(0)));
}

#[test]
fn a_higher_priority_preempts_and_the_preempted_goes_on_first() {
    let mut queues = queues(1, &[16, 16, 20]);
    queues.ready(ThreadNo(0));
    queues.ready(ThreadNo(1));
    assert_eq!(queues.decide(0, 0), Some(ThreadNo(0)));
    assert_eq!(queues.ready(ThreadNo(2)), Some(Placement { cpu: 0, tell: true }));
    assert_eq!(queues.decide(0, 1), Some(ThreadNo(2)));
    queues.leave(0);
    assert_eq!(queues.decide(0, 2), Some(ThreadNo(0)));
}

#[test]
fn a_ready_thread_goes_to_an_idle_cpu_and_idle_cpus_steal() {
    let mut queues = queues(2, &[16, 16, 16, 16]);
    queues.ready(ThreadNo(0));
    assert_eq!(queues.decide(0, 0), Some(ThreadNo(0)));
    assert_eq!(queues.ready(ThreadNo(1)), Some(Placement { cpu: 1, tell: true }));
    assert_eq!(queues.ready(ThreadNo(2)), Some(Placement { cpu: 0, tell: true }), "it must end its quantum");
    assert_eq!(queues.ready(ThreadNo(3)), Some(Placement { cpu: 0, tell: false }));
    queues.remove(ThreadNo(3));
    assert_eq!(queues.decide(1, 0), Some(ThreadNo(1)));
    queues.leave(1);
    assert_eq!(queues.decide(1, 1), Some(ThreadNo(2)), "stolen from CPU 0");
}

#[test]
fn making_ready_twice_is_once() {
    let mut queues = queues(1, &[3]);
    assert!(queues.ready(ThreadNo(0)).is_some());
    assert!(queues.ready(ThreadNo(0)).is_none());
    assert_eq!(queues.decide(0, 0), Some(ThreadNo(0)));
    assert!(queues.ready(ThreadNo(0)).is_none());
}

proptest! {
    /// Nobody is lost, nobody runs twice, no CPU idles while someone is ready, and on a CPU nobody
    /// waits behind a less important one.
    #[test]
    fn every_ready_thread_is_somewhere(
        priorities in proptest::collection::vec(0u32..32, 1..12),
        cpus in 1usize..5,
        steps in proptest::collection::vec((0u8..6, 0u32..12, 0usize..4, 0u32..32), 0..200),
    ) {
        let mut queues = queues(cpus, &priorities);
        let mut active = std::collections::BTreeSet::new();
        let mut now = 0;
        for (what, thread, cpu, priority) in steps {
            let (thread, cpu) = (ThreadNo(thread % priorities.len() as u32), cpu % cpus);
            now += QUANTUM_NS / 3;
            match what {
                0 => { queues.ready(thread); active.insert(thread); }
                1 => { if let Some(left) = queues.running(cpu) { active.remove(&left); } queues.leave(cpu); }
                2 => queues.give_way(cpu),
                3 => { queues.set_priority(thread, priority); }
                4 => { queues.remove(thread); active.remove(&thread); }
                _ => {
                    let chosen = queues.decide(cpu, now);
                    prop_assert!(chosen.is_some() || queues.busiest().is_none());
                    if let Some(chosen) = chosen {
                        let mine = queues.threads[chosen.index()].priority;
                        prop_assert!(queues.cpus[cpu].highest().is_none_or(|other| other <= mine));
                    }
                }
            }
            let mut seen = Vec::new();
            for cpu in 0..cpus {
                seen.extend(queues.running(cpu));
                let before = seen.len();
                for priority in 0..PRIORITIES as usize {
                    let mut at = queues.cpus[cpu].queues[priority].first();
                    prop_assert_eq!(at.is_some(), queues.cpus[cpu].occupied & 1 << priority != 0);
                    while let Some(index) = at {
                        seen.push(ThreadNo(index));
                        at = List::after(&queues.threads, index);
                    }
                }
                let running = queues.running(cpu).is_some() as usize;
                prop_assert_eq!(queues.cpus[cpu].ready, seen.len() - before);
                let _ = running;
            }
            seen.sort();
            prop_assert_eq!(seen, active.iter().copied().collect::<Vec<_>>());
        }
    }
}
