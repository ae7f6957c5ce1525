//! Fixed input shapes, written as `NAME:1,3,224,224`.

use updp_ir::Model;

use super::Error;

/// Fixes input shapes. A shape has the form `NAME:1,3,224,224`; `x` between the dims and brackets are also accepted. A
/// model with one input needs no name.
///
/// # Errors
/// C0005 if a shape cannot be read or does not fit the model.
pub fn fix_shapes(shapes: &[String], model: &mut Model) -> Result<(), Error> {
    for text in shapes {
        let fail = |detail: &str| Error::InputShape { text: text.clone(), detail: detail.into() };
        let (name, dims) = match text.rsplit_once(':') {
            Some((name, dims)) => (Some(name), dims),
            None => (None, text.as_str()),
        };
        let dims: Option<Vec<usize>> = dims
            .trim_start_matches('[')
            .trim_end_matches(']')
            .split([',', 'x'])
            .map(|dim| dim.trim().parse().ok().filter(|d| *d > 0))
            .collect();
        let dims = dims.ok_or_else(|| fail("a dim is no positive number"))?;
        let inputs: Vec<_> = model.graph.required_inputs().collect();
        let value = match name {
            Some(name) => model.graph.find(name).filter(|id| inputs.contains(id)),
            None => (inputs.len() == 1).then(|| inputs[0]),
        };
        let value = value.ok_or_else(|| fail("the model has no such input"))?;
        if model.graph.set_input_dims(value, &dims).is_err() {
            return Err(fail("the input has another rank or is no tensor"));
        }
    }
    Ok(())
}
