//! The mistakes.

use super::{Mutant, Test};

const COMMIT: &str = "shared/object/src/tx/commit.rs";
const PENDING: &str = "shared/object/src/tx/pending.rs";
const RECOVER: &str = "shared/object/src/recover.rs";
const OBJECTS: &str = "shared/object/src/tx/objects.rs";
const SPACE: &str = "shared/object/src/space.rs";
const RECENT: &str = "shared/object/src/recent.rs";

const CONTENDED: Test =
    Test("twizzler-object", "crash_contended", "locks_go_when_all_that_is_under_them_is_durable");
const AGAIN: Test =
    Test("twizzler-object", "crash_again", "neither_an_old_change_nor_an_old_delete_is_repeated");
const MADE_AGAIN: Test =
    Test("twizzler-object", "crash_again", "an_object_is_kept_that_another_transaction_made_in_vain_before");
const GONE: Test =
    Test("twizzler-object", "crash_again", "nothing_is_written_to_what_another_program_has_deleted");
const LONG_AGO: Test =
    Test("twizzler-object", "crash_again", "nothing_older_than_what_was_applied_is_repeated");
const TRANSFERS: Test = Test("twizzler-object", "crash", "transfers_are_atomic");
const GUESTS: Test = Test("twizzler-object", "crash", "objects_come_and_go_with_their_transaction");
const QUEUE: Test = Test("twizzler", "crash", "what_waits_survives_whole_and_in_order");
const LOGGED: Test =
    Test("twizzler-object", "schedules", "what_waits_for_the_log_is_seen_by_whoever_takes_the_lock");
const OPENED: Test = Test("twizzler-object", "opening", "a_guard_sees_what_it_opened_in_every_order");

/// No mistake: all must go well with it.
pub(super) const HARMLESS: Mutant = Mutant {
    name: "nothing",
    file: COMMIT,
    from: "        self.make_durable()?;\n",
    to: "        self.make_durable()?;\n        self.work().seen.set(0);\n",
    test: TRANSFERS,
};

pub(super) const MUTANTS: [Mutant; 18] = [
    Mutant {
        name: "the unlock before fence 2",
        file: COMMIT,
        from: "            space.backend().fence();\n            if lane.work.deletes.is_empty() {",
        to: "            space.release_all(&mut lane.held.borrow_mut());\n            space.backend().fence();\n            if lane.work.deletes.is_empty() {",
        test: CONTENDED,
    },
    Mutant {
        name: "the unlock before the changes in place",
        file: COMMIT,
        from: "        self.apply_lines(|_| true)?;\n        let (space, lane) = (self.space, &**self.lane);\n",
        to: "        let (space, lane) = (self.space, &**self.lane);\n        space.release_all(&mut lane.held.borrow_mut());\n        self.apply_lines(|_| true)?;\n",
        test: CONTENDED,
    },
    Mutant {
        name: "the changes in place before fence 1",
        file: COMMIT,
        from: "        unsafe { backend.stream(to, &work.words) };\n        backend.fence();\n        Ok(())",
        to: "        unsafe { backend.stream(to, &work.words) };\n        self.apply_lines(|_| true)?;\n        self.space.backend().fence();\n        Ok(())",
        test: TRANSFERS,
    },
    Mutant {
        name: "the record before fresh memory is durable",
        file: COMMIT,
        from: "            work.fresh.flush(backend);\n            backend.fence();",
        to: "            work.fresh.flush(backend);",
        test: GUESTS,
    },
    Mutant {
        name: "the record after fence 1",
        file: COMMIT,
        from: "        unsafe { backend.stream(to, &work.words) };\n        backend.fence();\n",
        to: "        backend.fence();\n        unsafe { backend.stream(to, &work.words) };\n",
        test: TRANSFERS,
    },
    Mutant {
        name: "deletes known as done before they are",
        file: COMMIT,
        from: "            if lane.work.deletes.is_empty() {\n                memory::store",
        to: "            {\n                memory::store",
        test: GUESTS,
    },
    Mutant {
        name: "deletes without what other lanes know",
        file: COMMIT,
        from: "                space.flush_applied();\n",
        to: "",
        test: AGAIN,
    },
    Mutant {
        name: "intents that outlive their transaction",
        file: OBJECTS,
        from: "        self.delete_created(0);\n        self.forget_intents();\n",
        to: "        self.delete_created(0);\n",
        test: MADE_AGAIN,
    },
    Mutant {
        name: "deletes of which nobody is told",
        file: RECOVER,
        from: "            memory::store(self.backend(), word, &(memory::load(word) | DELETED));\n",
        to: "",
        test: GONE,
    },
    Mutant {
        name: "a record done again that was applied before the last one",
        file: RECOVER,
        from: "left = record.transaction > memory::load",
        to: "left = record.transaction != memory::load",
        test: LONG_AGO,
    },
    Mutant {
        name: "the queue put in place before the log's sync",
        file: PENDING,
        from: "        let durable = self.backend().durable(end).",
        to: "        while self.apply_first(&mut self.pending.queue.lock(self.backend()), u64::MAX).is_some() {}\n        let durable = self.backend().durable(end).",
        test: QUEUE,
    },
    Mutant {
        name: "the changes in place before the log's sync",
        file: COMMIT,
        from: "        space.put_in_place(ticket.end)?;\n        // Whoever finds",
        to: "        self.apply_lines(|area| !self.work().fresh.made(area))?;\n        space.put_in_place(ticket.end)?;\n        // Whoever finds",
        test: QUEUE,
    },
    Mutant {
        name: "the unlock before the record is queued",
        file: COMMIT,
        from: "        let plain = self.is_plain();\n",
        to: "        let plain = self.is_plain();\n        if plain {\n            self.space.release_all(&mut self.lane.held.borrow_mut());\n        }\n",
        test: LOGGED,
    },
    Mutant {
        name: "the queue not in the log's order",
        file: PENDING,
        from: "        self.records.insert(at, record);",
        to: "        let _ = at;\n        self.records.push_front(record);",
        test: LOGGED,
    },
    Mutant {
        name: "slots given up under who is inside",
        file: SPACE,
        from: "            let passed = self.epochs.has_passed(epoch);\n            if passed {",
        to: "            let passed = true;\n            if passed {",
        test: OPENED,
    },
    Mutant {
        name: "opening what is about to go",
        file: RECENT,
        from: "state & (wanted | IS_LEAVING) == wanted",
        to: "state & wanted == wanted",
        test: OPENED,
    },
    Mutant {
        name: "opening whatever took the slot since",
        file: RECENT,
        from: "&& (hi, lo) == (id.hi, id.lo)",
        to: "&& (hi, lo) != (0, 0)",
        test: OPENED,
    },
    Mutant {
        name: "opening what another program has deleted",
        file: RECENT,
        from: "memory::load(version_word(area)) < DELETED)",
        to: "memory::load(version_word(area)) < u64::MAX)",
        test: OPENED,
    },
];
