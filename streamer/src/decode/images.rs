//! The memory of row images, used again from row to row.

use crate::event::{Image, OldImage, Value};

/// An empty image that keeps the allocation of one whose values are done
/// with. Collecting a vector's own items reuses its allocation, so this costs
/// nothing and lets the lifetime change.
#[inline]
pub fn emptied<'b>(mut image: Image<'_>) -> Image<'b> {
    image.clear();
    image.into_iter().map(|_| Value::Null).collect()
}

/// [`emptied`], of an old row.
#[inline]
pub fn spare<'b>(old: OldImage<'_>) -> Image<'b> {
    match old {
        OldImage::None => Image::new(),
        OldImage::Key(image) | OldImage::Full(image) => emptied(image),
    }
}
