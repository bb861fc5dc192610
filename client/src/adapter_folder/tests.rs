//! An adapter's folder takes the place of an earlier adapter, and nothing else is ever removed.

use std::sync::Arc;

use aggregation::{AdapterLayout, ModuleLayout};

use super::*;

fn adapter(seed: u64) -> Adapter {
    let module = ModuleLayout {
        name: "model.layers.0.self_attn.q_proj".to_owned(),
        in_features: 4,
        out_features: 3,
    };
    let layout = AdapterLayout::new(2, 4.0, false, vec![module]).unwrap();
    Adapter::initial(Arc::new(layout), seed)
}

fn put(folder: &Path, adapter: &Adapter) -> Result<(), FolderError> {
    let sidecar = Sidecar {
        base_fingerprint: [7; 32],
        base_name: "tiny".to_owned(),
    };
    write(folder, adapter, 0.1, &sidecar)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn earlier_adapter_is_replaced_and_nothing_is_left_beside_it() {
    let home = tempfile::tempdir().unwrap();
    // However the folder is written: no folder can be renamed to `adapter/.`.
    for (seed, way) in [(1, "adapter"), (2, "adapter/"), (3, "adapter/.")] {
        put(&home.path().join(way), &adapter(seed)).unwrap();
        let read = AdapterFolder::read(&home.path().join("adapter")).unwrap();
        assert_eq!(read.adapter.sha256(), adapter(seed).sha256());
        assert_eq!(names(home.path()), ["adapter"]);
    }
}

#[test]
fn folder_that_holds_anything_else_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("results");
    fs::create_dir_all(folder.join("patients")).unwrap();
    fs::write(folder.join("patients/one.txt"), "precious").unwrap();
    for refused in [check_place(&folder, &[]), prepare(&folder, &[])] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("results/patients belongs"), "{refused}");
    }
    assert_eq!(names(home.path()), ["results"]);
    // So does who did not ask before; the adapter that was made is not lost.
    let refused = put(&folder, &adapter(1)).unwrap_err();
    let kept = fs::read_to_string(folder.join("patients/one.txt")).unwrap();
    assert_eq!(kept, "precious");
    let FolderError::NotInPlace { made, .. } = &refused else {
        panic!("{refused}")
    };
    let read = AdapterFolder::read(made).unwrap();
    assert_eq!(read.adapter.sha256(), adapter(1).sha256());
}

#[test]
fn folder_named_as_an_adapters_file_is_foreign() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("out/foedus.json")).unwrap();
    let refused = check_place(&home.path().join("out"), &[]).unwrap_err();
    assert!(matches!(refused, FolderError::Occupied { .. }), "{refused}");
}

#[test]
fn file_that_is_kept_while_the_adapter_is_made_may_not_lie_in_its_folder() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("out");
    let (inside, beside) = (folder.join("state"), home.path().join("out.state"));
    check_place(&folder, &[&beside]).unwrap();
    let refused = check_place(&folder, &[&beside, &inside]).unwrap_err();
    assert!(refused.to_string().contains("out/state"), "{refused}");
}

#[test]
fn earlier_adapter_is_back_if_the_new_one_cannot_take_its_place() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("adapter");
    put(&folder, &adapter(1)).unwrap();
    let (absent, old) = (home.path().join("absent"), home.path().join("old"));
    let refused = place::take(&absent, &folder, &old).unwrap_err();
    assert!(refused.to_string().contains("adapter"), "{refused}");
    let read = AdapterFolder::read(&folder).unwrap();
    assert_eq!(read.adapter.sha256(), adapter(1).sha256());
    assert_eq!(names(home.path()), ["adapter"]);
}

#[test]
fn what_a_killed_process_left_does_not_stop_the_next_one() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("adapter");
    for left in ["new", "old"] {
        put(&folder, &adapter(1)).unwrap();
        fs::rename(&folder, place::aside(&folder, left).unwrap()).unwrap();
    }
    put(&folder, &adapter(2)).unwrap();
    let read = AdapterFolder::read(&folder).unwrap();
    assert_eq!(read.adapter.sha256(), adapter(2).sha256());
    assert_eq!(names(home.path()), ["adapter"]);
}

#[test]
fn place_without_a_name_is_refused_before_anything_is_made() {
    for path in [".", "..", "/", "results/..", ""] {
        let refused = prepare(Path::new(path), &[]).unwrap_err();
        assert!(
            matches!(refused, FolderError::Nameless { .. }),
            "{path:?}: {refused}"
        );
    }
}

#[test]
fn place_where_no_folder_can_be_made_is_refused_beforehand() {
    let home = tempfile::tempdir().unwrap();
    prepare(&home.path().join("a/b/adapter"), &[]).unwrap();
    assert_eq!(names(&home.path().join("a/b")), Vec::<String>::new());
    fs::write(home.path().join("file"), "x").unwrap();
    let refused = prepare(&home.path().join("file/adapter"), &[]).unwrap_err();
    assert!(refused.to_string().contains("file"), "{refused}");
    let refused = prepare(&home.path().join("file"), &[]).unwrap_err();
    assert!(refused.to_string().contains("file"), "{refused}");
}

#[cfg(unix)]
#[test]
fn of_a_link_only_the_link_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (link, first) = (home.path().join("adapter"), home.path().join("first"));
    put(&first, &adapter(1)).unwrap();
    std::os::unix::fs::symlink(&first, &link).unwrap();
    put(&link, &adapter(2)).unwrap();
    for (folder, seed) in [(&first, 1), (&link, 2)] {
        let read = AdapterFolder::read(folder).unwrap();
        assert_eq!(read.adapter.sha256(), adapter(seed).sha256());
    }
}
