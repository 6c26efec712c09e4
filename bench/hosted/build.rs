//! Compiles what is written in C: the loops over libpmemobj, whose interface is made of C's macros, and the maps that its package has as
//! examples.
#![forbid(unsafe_code)]

fn main() {
    println!("cargo::rustc-check-cfg=cfg(pmem_maps)");
    #[cfg(feature = "peers")]
    peers();
}

#[cfg(feature = "peers")]
fn peers() {
    for source in ["c/pmem.h", "c/pmem_hop.c", "c/pmem_tx.c", "c/pmem_map.c"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let compile = |files: &[&std::path::Path], name: &str, include: &[&std::path::Path]| {
        cc::Build::new()
            .files(files)
            .includes(include)
            .opt_level(3)
            .std("gnu11")
            .warnings(false)
            .compile(name);
    };
    compile(&["c/pmem_hop.c".as_ref(), "c/pmem_tx.c".as_ref()], "pmem_peer", &[]);
    // Where documentation is left out of packages, the examples are too.
    let examples = std::path::Path::new("/usr/share/doc/libpmemobj-dev/examples");
    println!("cargo::rerun-if-changed={}", examples.display());
    let (tree, table) = (examples.join("tree_map"), examples.join("hashmap"));
    let sources = [tree.join("btree_map.c"), table.join("hashmap_tx.c")];
    if sources.iter().all(|source| source.exists()) {
        let files = ["c/pmem_map.c".as_ref(), sources[0].as_path(), sources[1].as_path()];
        compile(&files, "pmem_maps", &[&tree, &table]);
        println!("cargo::rustc-cfg=pmem_maps");
    }
    println!("cargo::rustc-link-lib=pmemobj");
    println!("cargo::rustc-link-lib=rocksdb");
}
