//! Generates the ONNX message types from the vendored official `proto/onnx.proto`, and a table of their fields.

use std::fmt::Write;

/// Fields that tell the messages of a repeated field apart, in order of preference.
const NAMES: [&str; 4] = ["name", "key", "domain", "tensor_name"];

/// The number that a descriptor gives to the type of a field with messages.
const TYPE_MESSAGE: i32 = 11;

/// A message type of the schema.
struct Message {
    full_name: String,
    /// The field that names it; 0 = none.
    name: i32,
    /// Numbers of its fields, with the full names of the types of messages.
    fields: Vec<(i32, Option<String>)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    let mut messages: Vec<Message> = Vec::new();
    for file in &descriptors.file {
        let mut pending: Vec<_> =
            file.message_type.iter().map(|m| (format!(".{}", file.package()), m)).collect();
        while let Some((scope, message)) = pending.pop() {
            let full = format!("{scope}.{}", message.name());
            pending.extend(message.nested_type.iter().map(|inner| (full.clone(), inner)));
            let name = NAMES.iter().find_map(|name| {
                message.field.iter().find_map(|f| (f.name() == *name).then(|| f.number()))
            });
            let fields = message.field.iter().map(|field| {
                let of = (field.r#type.unwrap_or_default() == TYPE_MESSAGE)
                    .then(|| field.type_name().to_owned());
                (field.number(), of)
            });
            let (name, fields) = (name.unwrap_or(0), fields.collect());
            messages.push(Message { full_name: full, name, fields });
        }
    }
    messages.sort_by(|a, b| a.full_name.cmp(&b.full_name));
    let mut table = String::from("static MESSAGES: &[Message] = &[\n");
    for Message { full_name: full, name, fields } in &messages {
        write!(table, "Message {{ full_name: {full:?}, name: {name}, fields: &[")?;
        for (number, of) in fields {
            let of = of.as_ref().and_then(|of| messages.iter().position(|m| m.full_name == *of));
            write!(table, "({number}, {of:?}),")?;
        }
        table.push_str("] },\n");
    }
    table.push_str("];\n");
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(std::path::Path::new(&folder).join("fields.rs"), table)?;
    // Every `bytes` field becomes `bytes::Bytes`: a slice of the mapped file, not a copy of it.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
