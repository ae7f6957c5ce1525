//! Measures how many images a second the loader makes: `loader_rate DATA PREPROCESS SIDE [CHANNELS]`.
//!
//! For example `loader_rate /usr/share/datasets/fashion-mnist fashion-mnist 28 1`. One line for each augmentation: the first
//! epoch reads and decodes, the second has the images in memory.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use updp_trainer::data::{Dataset, InputSpec, Preprocess};
use updp_trainer::train::{Augment, Loader, LoaderSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, preprocess, side, channels @ ..] = &arguments[..] else {
        return Err("loader_rate DATA PREPROCESS SIDE [CHANNELS]".into());
    };
    let (data, preprocess) = (Dataset::open(Path::new(data))?, Preprocess::parse(preprocess)?);
    let side: usize = side.parse()?;
    let channels = channels.first().map_or(Ok(3), |channels| channels.parse())?;
    let input = InputSpec { channels, height: side, width: side, is_channel_last: false };
    let light = Augment::light(side / 8);
    let mixed = Augment { mixup: 0.2, cutmix: 1.0, ..light.clone() };
    let strong = Augment { operations: 2, magnitude: 9.0, erase: 0.25, ..mixed.clone() };
    let classes = data.classes().len().max(1);
    for (name, augment) in
        [("none", Augment::default()), ("light", light), ("mixed", mixed), ("strong", strong)]
    {
        let settings = LoaderSettings { augment, ..LoaderSettings::new(64, classes, 1) };
        let loader = Loader::new(&data, &preprocess, &input, settings)?;
        let mut stream = loader.stream(0)?;
        let mut rates = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            for batch in stream.by_ref().take(loader.steps_per_epoch()) {
                batch.map_err(|error| error.to_string())?;
            }
            let images = (64 * loader.steps_per_epoch()) as f64;
            rates.push(format!("{:.0}", images / start.elapsed().as_secs_f64()));
        }
        println!("{name}: {} images/s in epochs 1 to 3", rates.join(", "));
    }
    Ok(())
}
