//! A model of the MMU: TLBs and paging-structure caches with delayed invalidation.
