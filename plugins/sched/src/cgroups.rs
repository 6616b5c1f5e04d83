//! The paths of cgroup v2 ids: logged by the kernel programs when a cgroup is created, otherwise looked up in
//! the cgroup file system (`wattrace-cgroup`).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use wattrace_cgroup::CgroupIds;

/// Paths by id. Each is looked up once.
#[derive(Default)]
pub(crate) struct Cgroups {
    ids: Option<CgroupIds>,
    paths: FxHashMap<u64, Option<Arc<str>>>,
}

/// Cgroups come and go. When this many are known, all are forgotten.
const MAX_PATHS: usize = 8192;

impl Cgroups {
    pub(crate) fn new() -> Self {
        // An error means that paths are unknown.
        Self { ids: CgroupIds::find().ok(), paths: FxHashMap::default() }
    }

    /// A cgroup was created. Its path stays known after the cgroup is removed.
    pub(crate) fn created(&mut self, id: u64, path: &str) {
        if !path.is_empty() {
            self.forget_if_full();
            self.paths.insert(id, Some(path.into()));
        }
    }

    fn forget_if_full(&mut self) {
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
        }
    }

    /// The path of cgroup `id` below the cgroup v2 mount; `None` if it is removed or may not be looked up.
    pub(crate) fn path(&mut self, id: u64) -> Option<Arc<str>> {
        self.forget_if_full();
        let ids = self.ids.as_ref();
        let look_up = || ids?.path(id).map(Arc::from);
        self.paths.entry(id).or_insert_with(look_up).clone()
    }
}
