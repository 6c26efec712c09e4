//! Compiles what is written in C: the loops over libpmemobj, whose interface is made of C's macros.
#![forbid(unsafe_code)]

fn main() {
    #[cfg(feature = "peers")]
    {
        for source in ["c/pmem.h", "c/pmem_hop.c", "c/pmem_tx.c"] {
            println!("cargo::rerun-if-changed={source}");
        }
        cc::Build::new()
            .files(["c/pmem_hop.c", "c/pmem_tx.c"])
            .opt_level(3)
            .std("gnu11")
            .compile("pmem_peer");
        println!("cargo::rustc-link-lib=pmemobj");
        println!("cargo::rustc-link-lib=rocksdb");
    }
}
