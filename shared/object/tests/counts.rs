//! What transactions cost where flushes and fences make durable: exact numbers of lines flushed and of fences.
//! `docs/programming.md` has the same table; those of a store with a log are tested with the hosted runtime.

use std::fmt::Write as _;

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Access, Guard, InvPtr, Ptr, Reader, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.counts", version = 1)]
#[repr(C)]
struct Root {
    /// Each eighth is in a line of its own.
    words: [u64; 64],
    page: [u8; 4096],
    block: InvPtr<Block>,
    other: InvPtr<Root>,
    map: OrderedMapRoot<u64, u64>,
}

#[derive(Stored)]
#[stored(name = "test.counts-block", version = 1)]
#[repr(C)]
struct Block {
    bytes: [u64; 8],
}

type Under<'b> = &'b MemoryBackend;

/// What a transaction works on.
struct World<'g> {
    roots: [Ptr<'g, Root>; 8],
    /// A number that no transaction before has had.
    number: u64,
}

fn write<'g>(tx: &mut Tx<'g, Under<'_>>, root: Ptr<'g, Root>, n: usize, value: u64) -> Result<(), Error> {
    tx.set(root.at(Root::words).index(n * 8).ok_or(Error::OutOfRange)?, value)
}

fn allocate<'g>(tx: &mut Tx<'g, Under<'_>>, root: Ptr<'g, Root>) -> Result<(), Error> {
    let block = tx.alloc::<Block>(root.object())?;
    tx.set(block.at(Block::bytes), [7; 8])?;
    tx.link(root.at(Root::block), Some(block))
}

fn free<'g>(tx: &mut Tx<'g, Under<'_>>, root: Ptr<'g, Root>) -> Result<(), Error> {
    let block = tx.follow(root.at(Root::block))?.ok_or(Error::Damaged)?;
    tx.link(root.at(Root::block), None)?;
    tx.free(block)
}

type Change = for<'g, 'b> fn(&mut Tx<'g, Under<'b>>, &World<'g>) -> Result<(), Error>;

/// What is done, its lines and its fences.
const TABLE: [(&str, Change, u64, u64); 19] = [
    ("nothing", |_, _| Ok(()), 0, 0),
    (
        "read a word",
        |tx, world| {
            tx.get(world.roots[0].at(Root::words));
            Ok(())
        },
        0,
        0,
    ),
    (
        "take out of a map what is not there",
        |tx, world| OrderedMap::new(world.roots[0].at(Root::map)).delete(tx, &7).map(drop),
        0,
        0,
    ),
    ("8 bytes", |tx, world| write(tx, world.roots[0], 0, world.number), 3, 2),
    (
        "the same, 100 times over",
        |tx, world| (0..100).try_for_each(|n| write(tx, world.roots[0], 0, world.number + n)),
        3,
        2,
    ),
    (
        "8 ranges of 8 bytes, each in a line of its own",
        |tx, world| (0..8).try_for_each(|n| write(tx, world.roots[0], n, world.number)),
        13,
        2,
    ),
    ("4 KiB", |tx, world| tx.set(world.roots[0].at(Root::page), [world.number as u8; 4096]), 130, 2),
    (
        "8 bytes in each of two objects",
        |tx, world| world.roots[..2].iter().try_for_each(|&root| write(tx, root, 0, world.number)),
        6,
        2,
    ),
    (
        "8 bytes in each of eight objects",
        |tx, world| world.roots.iter().try_for_each(|&root| write(tx, root, 0, world.number)),
        23,
        2,
    ),
    ("allocate 64 bytes and point to them", |tx, world| allocate(tx, world.roots[0]), 7, 2),
    ("free them", |tx, world| free(tx, world.roots[0]), 5, 2),
    (
        "allocate 64 bytes and free them again",
        |tx, world| {
            allocate(tx, world.roots[0])?;
            free(tx, world.roots[0])
        },
        7,
        2,
    ),
    ("allocate 64 bytes and point to them, once more", |tx, world| allocate(tx, world.roots[0]), 7, 2),
    (
        "allocate 64 bytes, point to them, free the old ones",
        |tx, world| {
            free(tx, world.roots[0])?;
            allocate(tx, world.roots[0])
        },
        7,
        2,
    ),
    (
        "8 bytes, and a savepoint that is rolled back",
        |tx, world| {
            write(tx, world.roots[0], 0, world.number)?;
            let inner = tx.savepoint(|tx| {
                (0..8).try_for_each(|n| write(tx, world.roots[1], n, world.number))?;
                Err::<(), _>(Error::Interrupted)
            });
            assert_eq!(inner, Err(Error::Interrupted));
            Ok(())
        },
        3,
        2,
    ),
    (
        "an error: all is undone",
        |tx, world| {
            write(tx, world.roots[0], 0, world.number)?;
            allocate(tx, world.roots[0])?;
            Err(Error::Interrupted)
        },
        0,
        0,
    ),
    (
        "allocate 64 KiB, which are written in place",
        |tx, world| tx.alloc_span::<u64>(world.roots[0].object(), 8192).map(drop),
        1030,
        3,
    ),
    (
        "make an object, write 8 bytes to it, point to it",
        |tx, world| {
            let made = tx.create::<Root>()?.base();
            write(tx, made, 0, 7)?;
            tx.link(world.roots[0].at(Root::other), Some(made))
        },
        13,
        4,
    ),
    (
        "delete it",
        |tx, world| {
            let block = tx.follow(world.roots[0].at(Root::other))?.ok_or(Error::Damaged)?;
            tx.link(world.roots[0].at(Root::other), None)?;
            tx.delete(tx.space().id_of(block.object()))
        },
        7,
        3,
    ),
];

fn roots<'g>(guard: &'g Guard<'_, Under<'_>>, ids: &[ObjId]) -> [Ptr<'g, Root>; 8] {
    std::array::from_fn(|n| guard.open::<Root>(ids[n], Access::Write).expect("there").base())
}

#[test]
fn transactions_cost_exactly_what_the_documentation_says() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let make =
        |_| space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made");
    let ids: Vec<ObjId> = (0..8).map(make).collect();
    let guard = space.enter();
    let roots = roots(&guard, &ids);
    // The heap has its first span, and there is a block to be freed.
    let first = guard.transact(|tx| {
        allocate(tx, roots[0])?;
        free(tx, roots[0])
    });
    first.expect("room");
    let mut found = String::new();
    for (number, (name, change, ..)) in (1u64..).zip(TABLE) {
        let world = World { roots, number: number * 1000 };
        let before = (backend.flushed_lines(), backend.fences());
        match guard.transact(|tx| change(tx, &world)) {
            Ok(()) | Err(Error::Interrupted) => {}
            Err(error) => panic!("{name}: {error}"),
        }
        let (lines, fences) = (backend.flushed_lines() - before.0, backend.fences() - before.1);
        writeln!(found, "  | {name} | {lines} | {fences} |").expect("a string takes it");
    }
    let mut wanted = String::new();
    for (name, _, lines, fences) in TABLE {
        writeln!(wanted, "  | {name} | {lines} | {fences} |").expect("a string takes it");
    }
    assert_eq!(found, wanted, "\nfound:\n{found}");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/programming.md"));
    assert!(
        page.expect("the page is there").contains(&wanted),
        "docs/programming.md has other numbers than\n{wanted}"
    );
}
