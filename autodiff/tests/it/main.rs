//! Gradients against finite differences, and training steps, all run in ONNX Runtime with its optimizer off.

mod convolutions;
mod driver;
mod elementwise;
mod exporters;
mod gradcheck;
mod half;
mod layout;
mod lower;
mod lower_migraphx;
mod networks;
mod norms;
mod optimizers;
mod pools;
mod recompute;
mod step;
mod torch;
