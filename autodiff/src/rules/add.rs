//! `Add`: y = a + b with broadcasting; ā = ȳ, b̄ = ȳ, each summed to its operand's dims by the driver.

use updp_ir::ValueId;

use super::matmul::record_product;
use super::site::{Cotangent, Site};
use crate::emit::Emit;
use crate::error::Result;

pub(super) fn vjp(emit: &mut Emit<'_>, site: &Site) -> Result<Vec<Cotangent>> {
    let (a, b) = (site.operand(emit, 0)?, site.operand(emit, 1)?);
    for (product, bias) in [(a, b), (b, a)] {
        if let Some(factors) = biased(emit, product, bias)? {
            record_product(emit, factors, Some(bias), site.y(emit)?)?;
            break;
        }
    }
    let dy = site.dy(emit)?;
    Ok(vec![Cotangent::Value(dy); 2])
}

/// The factors of a product of rows with a matrix, if the other operand is a bias of its columns and nothing else reads
/// the product.
fn biased(emit: &Emit<'_>, product: ValueId, bias: ValueId) -> Result<Option<[ValueId; 2]>> {
    let graph = emit.graph();
    let Some((node, _)) = graph.producer(product) else { return Ok(None) };
    let [Some(a), Some(b)] = graph.operands(node)[..] else { return Ok(None) };
    let is_meant = graph.node(node).domain().is_empty() && graph.node(node).is("MatMul");
    if !is_meant || graph.sole_use(product).is_none() {
        return Ok(None);
    }
    let (rows, matrix) = (emit.dims(a)?, emit.dims(b)?);
    let fits = rows.len() > 1 && matrix.len() == 2 && emit.dims(bias)? == matrix[1..];
    Ok(fits.then_some([a, b]))
}
