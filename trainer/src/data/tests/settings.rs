//! Preprocessing from presets and JSON, and the input's dims.

use super::*;

const SHARE: Resize = Resize::Share { share: 0.9, is_rounded: false, is_squashed: false };

fn json(text: &str) -> Preprocess {
    parse(Folder::new().0.path(), text).unwrap()
}

fn refusal(text: &str) -> String {
    let error = parse(Folder::new().0.path(), text).unwrap_err();
    assert_eq!(error.code(), "T0109");
    error.to_string()
}

#[test]
fn reads_our_own_keys() {
    let plain = json(r#"{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}"#);
    assert_eq!(plain, Preprocess::squeezed(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]));
    let full = json(
        r#"{"mean": 0.5, "std": [0.1, 0.2, 0.3], "resize": 40, "interpolation": "bicubic", "rescale": 1, "size": 32}"#,
    );
    assert_eq!(full.mean, [0.5; 3]);
    assert_eq!((full.resize, full.is_cropped), (Resize::ShortSide(40), true));
    assert_eq!((full.interpolation, full.rescale), (Interpolation::Bicubic, 1.0));
    assert_eq!(full.size, Some((32, 32)));
    let exact = json(r#"{"resize": [20, 30], "crop": false}"#);
    assert_eq!((exact.is_cropped, exact.size), (false, Some((20, 30))));
}

#[test]
fn reads_hugging_face_files() {
    let vit = json(
        r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "resample": 2, "size": 224, "image_processor_type": "ViTImageProcessor"}"#,
    );
    assert_eq!((vit.is_cropped, vit.size), (false, Some((224, 224))));
    assert_eq!((vit.interpolation, vit.rescale), (Interpolation::Bilinear, 1.0 / 255.0));
    let clip = json(
        r#"{"do_center_crop": true, "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256},
            "resample": 3, "do_rescale": true, "rescale_factor": 0.00392156862745098,
            "image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.26, 0.27]}"#,
    );
    assert_eq!((clip.resize, clip.is_cropped), (Resize::ShortSide(256), true));
    assert_eq!((clip.size, clip.interpolation), (Some((224, 224)), Interpolation::Bicubic));
    let convnext = |side: usize| {
        json(&format!(
            r#"{{"size": {{"shortest_edge": {side}}}, "crop_pct": 0.875, "do_normalize": false, "resample": 1}}"#
        ))
    };
    assert_eq!((convnext(224).resize, convnext(224).is_cropped), (Resize::ShortSide(256), true));
    assert_eq!((convnext(384).is_cropped, convnext(384).size), (false, Some((384, 384))));
    assert_eq!(convnext(384).mean, [0.0]);
    let mobile_vit = json(
        r#"{"do_flip_channel_order": true, "do_rescale": false, "do_resize": false, "do_center_crop": true,
            "crop_size": 256, "size": {"height": 288, "width": 288}}"#,
    );
    assert!(mobile_vit.is_bgr && mobile_vit.is_cropped);
    assert_eq!((mobile_vit.resize, mobile_vit.rescale), (Resize::Keep, 1.0));
    assert_eq!(mobile_vit.size, Some((256, 256)));
}

#[test]
fn reads_timm_files_nested_or_not() {
    let keys = r#"{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 240, 240],
        "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"}"#;
    let flat = json(keys);
    assert_eq!((flat.resize, flat.is_cropped, flat.size), (SHARE, true, Some((240, 240))));
    let nested = format!(r#"{{"architecture": "efficientnet_b1", "pretrained_cfg": {keys}}}"#);
    assert_eq!(json(&nested), flat);
    let squash = json(&keys.replace("center", "squash"));
    assert!(matches!(squash.resize, Resize::Share { is_squashed: true, .. }));
    let other = InputSpec { height: 256, width: 256, ..RGB_4X4 };
    assert!(flat.plan(&other).is_ok(), "timm scales with the input");
}

#[test]
fn refuses_what_it_does_not_understand() {
    for (text, part) in [
        (r#"{"means": [0.5]}"#, "image_mean"),
        (r#"{"mean": [0.5], "sdt": [1]}"#, "sdt"),
        (r#"{"mean": [0.5, 0.5], "std": [1, 1]}"#, "2 means"),
        (r#"{"mean": [0.5], "std": [0]}"#, "above 0"),
        (r#"{"mean": "x"}"#, "no list"),
        (r#"{"rescale": -1}"#, "rescaled by -1"),
        (r#"{"resize": 0}"#, "number of pixels"),
        (r#"{"resize": 99999}"#, "number of pixels"),
        (r#"{"resize": 4, "crop": 1}"#, "true or false"),
        (r#"{"interpolation": "area"}"#, "area"),
        (r#"{"resample": 4}"#, "resample"),
        (r#"{"do_resize": true}"#, "size"),
        (r#"{"do_normalize": true}"#, "image_mean"),
        (r#"{"do_resize": true, "size": {"longest_edge": 9}}"#, "shortest_edge"),
        (r#"{"do_pad": true, "do_resize": false}"#, "do_pad"),
        (r#"{"pretrained_cfg": {"mean": [0], "std": [1], "crop_mode": "border"}}"#, "border"),
        (r#"{"pretrained_cfg": {"mean": [0], "std": [1], "crop_pct": 0}}"#, "share 0"),
        (r#"{"pretrained_cfg": {"std": [1]}}"#, "mean"),
        ("[]", "object"),
        ("{", "EOF"),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
    }
    let error = Preprocess::parse("imagnet").unwrap_err();
    assert_eq!(error.code(), "T0109");
    assert!(error.help().unwrap().contains("imagenet"));
}

#[test]
fn reads_the_dims_of_the_input() {
    let none = raw();
    let first = InputSpec::of(&[None, Some(3), Some(4), Some(4)], &none).unwrap();
    assert_eq!(first, RGB_4X4);
    let last = InputSpec::of(&[Some(1), Some(4), Some(6), Some(1)], &none).unwrap();
    let expected = InputSpec { channels: 1, height: 4, width: 6, is_channel_last: true };
    assert_eq!(last, expected);
    assert_eq!(last.row_dims(), [4, 6, 1]);
    for dims in [
        &[None, Some(3), Some(4)][..],
        &[None, Some(64), Some(4), Some(4)],
        &[None, None, Some(4), None],
        &[None, Some(3), Some(0), Some(4)],
        &[None, Some(3), Some(4), Some(1 << 40)],
    ] {
        assert_eq!(InputSpec::of(dims, &none).unwrap_err().code(), "T0107", "{dims:?}");
    }
}

#[test]
fn takes_the_size_of_the_preprocessing_where_the_input_leaves_it_open() {
    let dims = [None, Some(3), None, None];
    let sized = json(r#"{"size": [20, 30]}"#);
    let input = InputSpec::of(&dims, &sized).unwrap();
    assert_eq!((input.height, input.width), (20, 30));
    let error = InputSpec::of(&dims, &raw()).unwrap_err();
    assert_eq!(error.code(), "T0108");
    assert!(error.to_string().contains("[?,3,?,?]"), "{error}");
    let help = error.help().unwrap();
    assert!(help.contains("--preprocess FILE.json") && help.contains("--input-shape"), "{help}");
}

#[test]
fn refuses_a_preprocessing_for_another_size_or_number_of_channels() {
    let folder = Folder::new().with("a.png", png(4, 4, &[1]));
    let data = folder.open().unwrap();
    let code = |preprocess: &Preprocess, input: &InputSpec| {
        data.batches(preprocess, input, 1).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(code(&json(r#"{"resize": 8, "size": 6}"#), &RGB_4X4), "T0110");
    assert_eq!(code(&Preprocess::parse("imagenet").unwrap(), &GREY_2X2), "T0110");
}
