//! What happens when decoding starts.

use pgrx::pg_sys;
use pgrx::pg_sys::OutputPluginOutputType::{
    OUTPUT_PLUGIN_BINARY_OUTPUT, OUTPUT_PLUGIN_TEXTUAL_OUTPUT,
};

use super::decoder::Decoder;
use super::failure::Outcome;
use super::options::{self, Format, Options, Origins};
use super::settings::{self, Lasting};
use super::text::{Converter, Invalid};
use super::{invalidation, server};

/// # Safety
/// Within the startup callback.
pub unsafe fn start(
    ctx: *mut pg_sys::LogicalDecodingContext,
    output: *mut pg_sys::OutputPluginOptions,
    is_init: bool,
) -> Outcome {
    // SAFETY: as the caller promises.
    unsafe {
        // A slot is being created: there are no options, nothing is decoded
        // yet, and what the slot is must not depend on the plugin. The server
        // has set these two because the callbacks exist. The catalog is left
        // alone: an exported snapshot allows no snapshot before it.
        if is_init {
            (*ctx).streaming = false;
            (*ctx).twophase = false;
            return Ok(());
        }
        let converter = Converter::new(Invalid::Refuse);
        let given = server::in_transaction(|| options::given(ctx, converter))?;
        let options = Options::read(&given)?;
        (*output).output_type = match options.format {
            Format::Json => OUTPUT_PLUGIN_TEXTUAL_OUTPUT,
            Format::Native | Format::None => OUTPUT_PLUGIN_BINARY_OUTPUT,
        };
        (*ctx).streaming &= options.streaming;
        (*ctx).twophase &= options.two_phase;
        // Asking for two_phase turns it on in the slot, for good: the server
        // keeps from where on it has sent transactions at their PREPARE.
        #[cfg(not(feature = "pg14"))]
        {
            (*ctx).twophase_opt_given = (*ctx).twophase;
        }
        #[cfg(feature = "pg14")]
        {
            (*ctx).twophase &= (*(*ctx).slot).data.two_phase;
        }
        // Without a filter the server need not ask at every WAL record.
        if options.origins == Origins::Any {
            (*ctx).callbacks.filter_by_origin_cb = None;
        }
        // A walsender's session is the reader's own: what is pinned here need
        // not be pinned in every transaction.
        if pg_sys::am_walsender && !pg_sys::IsTransactionState() {
            settings::pin(Lasting::Session);
        }
        invalidation::register();
        let converter = Converter::new(options.invalid_text);
        Decoder::install(ctx, options, converter)
    }
}
