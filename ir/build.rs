//! Generates the ONNX message types from the vendored official `proto/onnx.proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    // Every `bytes` field becomes `bytes::Bytes`: a slice of the mapped file, not a copy of it.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
