//! Damaged and unfit files end with an error or are left out, and never with a panic.

use super::*;
use crate::data::Skipped;

#[test]
fn refuses_what_is_no_data_set() {
    let folder = Folder::new()
        .with("a.txt", "")
        .with("b.png", png(1, 1, &[0]))
        .with("c.tar.gz", "")
        .with("d.tar", tar(&[("a.txt", b"x")]))
        .with("e.npz", npz(&[("p", npy("|u1", &[1, 1, 1], &[0])), ("q", npy("|u1", &[1], &[0]))]))
        .with("f.npy", npy("<i8", &[1, 1, 1], &[0; 8]))
        .with("g.npy", npy("<f4", &[0, 1, 2, 2], &[]))
        .with("i/x-images-idx3-ubyte", idx(&[1, 1, 1], &[0]))
        .with("i/y-images-idx3-ubyte", idx(&[1, 1, 1], &[0]))
        .with("j/k.tar.gz", "");
    std::fs::create_dir(folder.path("h")).unwrap();
    for (name, expected) in [
        ("nothing", "T0101"),
        ("a.txt", "T0102"),
        ("b.png", "T0102"),
        ("c.tar.gz", "T0103"),
        ("d.tar", "T0102"),
        ("e.npz", "T0102"),
        ("f.npy", "T0102"),
        ("g.npy", "T0102"),
        ("h", "T0102"),
        ("i", "T0102"),
        ("j", "T0103"),
    ] {
        assert_eq!(code(Dataset::open(&folder.path(name))), expected, "{name}");
    }
}

#[test]
fn refuses_headers_that_lie() {
    let short = idx(&[9, 2, 2], &[0; 8]);
    let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 8]);
    let floats = |dims: &str| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}\n");
        [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
    };
    let fortran = String::from_utf8_lossy(&floats("1,")[10..]).replace("False", "True ");
    let whole = tar(&[("a.png", &[7; 3000])]);
    let folder = Folder::new()
        .with("a-images-idx3-ubyte", &short)
        .with("b-images-idx3-ubyte", &huge)
        .with("c-images-idx3-ubyte.gz", gz(&short))
        .with("d-images-idx3-ubyte.gz", gz(&huge))
        .with("e-images-idx3-ubyte.gz", &gz(&idx(&[2, 2, 2], &[0; 8]))[..20])
        .with("f-images-idx3-ubyte", "no IDX file")
        .with("g-images-idx3-ubyte", idx(&[2, 0, 2], &[]))
        .with("h-images-idx3-ubyte", idx(&[8], &[0; 8]))
        .with("i-images-idx3-ubyte.gz", gz(&idx(&[1, 2, 2], &[0; 8])))
        .with("a.npy", floats("4, 2"))
        .with("b.npy", floats("4294967296, 4294967296, 4294967296"))
        .with("c.npy", floats("99999999999999999999999999"))
        .with("d.npy", floats("0xffffffffffffffff, 0xffffffffffffffff"))
        .with("e.npy", floats(&format!("{}1{}", "(".repeat(900), ")".repeat(900))))
        .with("f.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr': '<f4'")
        .with("g.npy", npy("<f4", &[2, 2], &[0; 15]))
        .with("h.npy", npy(">f4", &[2, 2], &[0; 16]))
        .with("i.npy", npy("<c8", &[2, 2], &[0; 32]))
        .with("j.npy", [&floats("1,")[..10], fortran.as_bytes(), &[0; 4]].concat())
        .with("k.npy", "")
        .with("a.npz", npz(&[("x", npy("|u1", &[9, 2, 2], &[0; 4]))]))
        .with("b.npz", "no archive")
        .with("c.npz", &npz(&[("x", npy("|u1", &[1, 2, 2], &[0; 4]))])[..90])
        .with("a.tar", &whole[..2000])
        .with("b.tar", &whole[..100])
        .with("c.tar", [9; 2048]);
    let mut files: Vec<_> =
        std::fs::read_dir(folder.0.path()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 26);
    for file in files {
        assert_eq!(code(Dataset::open(&file)), "T0105", "{}", file.display());
    }
}

#[test]
fn refuses_labels_that_do_not_match() {
    let images = npy("|u1", &[2, 1, 1], &[1, 2]);
    let labels = |kind: &str, dims: &[usize], bytes: &[u8]| {
        npz(&[("images", images.clone()), ("labels", npy(kind, dims, bytes))])
    };
    let picture = png(1, 1, &[1]);
    let folder = Folder::new()
        .with("few.npz", labels("|u1", &[1], &[0]))
        .with("negative.npz", labels("|i1", &[2], &[0, 255]))
        .with("large.npz", labels("<i8", &[2], &i64_bytes(&[0, i64::MAX])))
        .with("float.npz", labels("<f4", &[2], &[0; 8]))
        .with("one_hot.npz", labels("|u1", &[2, 3], &[0; 6]))
        .with("missing.tar", tar(&[("a.png", &picture), ("b.png", &picture), ("a.cls", b"1")]))
        .with("text.tar", tar(&[("a.png", &picture), ("a.cls", b"cat")]))
        .with("long.tar", tar(&[("a.png", &picture), ("a.cls", &[b'1'; 99])]))
        .with("x-images-idx3-ubyte", idx(&[2, 1, 1], &[0; 2]))
        .with("x-labels-idx1-ubyte", idx(&[3], &[0; 3]))
        .with("folder/a/a.png", &picture)
        .with("folder/b/b.png", &picture)
        .with("folder/c/c.gif", &picture);
    for name in [
        "few.npz",
        "negative.npz",
        "large.npz",
        "float.npz",
        "one_hot.npz",
        "missing.tar",
        "text.tar",
        "long.tar",
        "x",
        "folder",
    ] {
        assert_eq!(code(Dataset::open(&folder.path(name))), "T0106", "{name}");
    }
}

#[test]
fn refuses_floats_that_are_not_of_the_inputs_shape() {
    let folder = Folder::new().with("a.npy", npy("<f4", &[2, 2, 2, 1], &[0; 32]));
    let data = Dataset::open(&folder.path("a.npy")).unwrap();
    let error = data.batches(&raw(), &GREY_2X2, 1).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "T0110");
    assert!(error.to_string().contains("[2, 2, 1], and the model takes [1, 2, 2]"), "{error}");
}

/// `good` readable images in a folder, `bad` cut-off ones between them.
fn mixed(good: usize, bad: usize) -> Folder {
    let whole = image(ImageFormat::Png, 4, 4, &[5, 6, 7]);
    let mut folder = Folder::new();
    for at in 0..good {
        folder = folder.with(&format!("{at:03}.png"), &whole);
    }
    for at in 0..bad {
        folder = folder.with(&format!("{at:03}_bad.png"), &whole[..40]);
    }
    folder
}

#[test]
fn leaves_unreadable_images_out_and_fills_the_batch_up() {
    let folder = mixed(7, 3);
    let data = folder.open().unwrap();
    let mut batches = data.batches(&raw(), &RGB_4X4, 4).unwrap();
    let sizes: Vec<_> = batches.by_ref().map(|batch| batch.unwrap().images.dims()[0]).collect();
    assert_eq!(sizes, [4, 3]);
    let names: Vec<_> =
        batches.skipped().iter().map(|Skipped { name, .. }| name.as_str()).collect();
    assert_eq!(names, ["000_bad.png", "001_bad.png", "002_bad.png"]);
    assert!(!batches.skipped()[0].reason.is_empty());
}

#[test]
fn stops_when_too_many_images_are_unreadable() {
    let folder = mixed(200, 11);
    let mut batches = folder.open().unwrap().batches(&raw(), &RGB_4X4, 8).unwrap();
    let error = batches.by_ref().find_map(Result::err).unwrap();
    assert_eq!(error.code(), "T0111");
    assert!(error.to_string().contains("000_bad.png"), "{error}");
    assert!(error.to_string().starts_with("11 of 211 images"), "{error}");
    assert!(batches.next().is_none());
    let folder = mixed(300, 10);
    let few = folder.open().unwrap().batches(&raw(), &RGB_4X4, 8).unwrap();
    assert_eq!(few.flatten().count(), 300_usize.div_ceil(8));
}

#[test]
fn stops_when_no_image_is_readable() {
    let folder = mixed(0, 2);
    let mut batches = folder.open().unwrap().batches(&raw(), &RGB_4X4, 8).unwrap();
    assert_eq!(batches.next().unwrap().unwrap_err().code(), "T0111");
    assert!(batches.next().is_none());
}

#[test]
fn survives_images_damaged_anywhere() {
    let pixels = pattern(12, 9);
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
        let whole = encode(format, 12, 9, &pixels);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = crate::data::decode::decode(&damaged, 3);
            let _ = crate::data::decode::decode(&whole[..at], 1);
        }
    }
}

#[test]
fn survives_archives_damaged_anywhere() {
    let labels = npy("<i8", &[2], &i64_bytes(&[0, 1]));
    let archive = npz(&[("images", npy("|u1", &[2, 2, 2], &[0; 8])), ("labels", labels)]);
    let members = tar(&[("a.png", &png(2, 2, &[1])), ("a.cls", b"1")]);
    let rows = idx(&[2, 2, 2], &[0; 8]);
    let files = [
        ("a.npz", &archive),
        ("a.npy", &npy("|u1", &[2, 2, 2], &[0; 8])),
        ("a.tar", &members),
        ("a-images-idx3-ubyte", &rows),
        ("a-images-idx3-ubyte.gz", &gz(&rows)),
    ];
    let folder = Folder::new();
    for (name, whole) in files {
        let path = folder.path(name);
        for at in (0..whole.len()).step_by(1 + whole.len() / 300) {
            for content in
                [whole[..at].to_vec(), [&whole[..at], &[!whole[at]], &whole[at + 1..]].concat()]
            {
                std::fs::write(&path, content).unwrap();
                if let Ok(data) = Dataset::open(&path) {
                    let batches = data.batches(&raw(), &GREY_2X2, 2).unwrap();
                    assert!(batches.take(4).count() < 4);
                }
            }
        }
    }
}

#[test]
fn refuses_an_image_that_claims_to_be_huge() {
    let mut bomb = image(ImageFormat::Bmp, 4, 4, &[1, 2, 3]);
    bomb[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    assert!(crate::data::decode::decode(&bomb, 3).is_err());
}

#[test]
fn may_be_dropped_before_the_end() {
    let folder = mixed(40, 0);
    let mut batches = folder.open().unwrap().batches(&raw(), &RGB_4X4, 1).unwrap();
    assert!(batches.next().unwrap().is_ok());
    drop(batches);
}

#[test]
fn every_code_is_its_own() {
    let mut codes = DataError::CODES.to_vec();
    codes.dedup();
    assert_eq!(codes.len(), DataError::CODES.len());
    assert!(codes.is_sorted());
}
