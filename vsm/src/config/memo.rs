//! The running configuration as text, kept for whoever asks next.

use std::sync::{Arc, Mutex, PoisonError};

use super::model::Model;
use super::running::{Part, body};

/// The whole text of the model that was asked for last: many ask at once what a large configuration is, and it is written
/// once. Any thread may use it.
#[derive(Default)]
pub struct Memo(Mutex<Option<(Arc<Model>, Arc<str>)>>);

impl Memo {
    /// The whole part without a header.
    pub fn body(&self, model: &Arc<Model>) -> Arc<str> {
        // Replaced as a whole, so what a panicked thread left is sound.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, text)) = &*last
            && Arc::ptr_eq(known, model)
        {
            return text.clone();
        }
        let text: Arc<str> = body(model, &Part::Whole).into();
        *last = Some((model.clone(), text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_once_for_each_model() {
        let memo = Memo::default();
        let first = Arc::new(Model::default());
        let text = memo.body(&first);
        assert!(Arc::ptr_eq(&text, &memo.body(&first)));
        let other = Arc::new(Model { hostname: "other".to_owned(), ..Model::default() });
        assert!(memo.body(&other).contains("hostname other\n"));
        assert_eq!(memo.body(&first), text);
    }
}
