//! Texts as numbers, while they are in memory: one dictionary for every column of text.
//!
//! Flow records of one time share their names: the same `Arc` comes again and again. So a name is looked up by where it
//! lies first. What lies there is held, so that no other name can come to lie there.

use arrow::array::StringArray;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses of names that are remembered; beyond, they are forgotten together and looked up by text again.
const HELD_MAX: usize = 65_536;

type Hash = foldhash::fast::RandomState;

/// What lies at a place, and of how many bytes or names: its number.
type Held<T> = HashMap<(usize, usize), (u32, Arc<T>), Hash>;

/// Dictionary of texts. The first is the empty one, which stands for what is missing.
#[derive(Debug)]
pub(super) struct Texts {
    texts: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, u32, Hash>,
    by_address: HashMap<IpAddr, u32, Hash>,
    names: Held<str>,
    lists: Held<[Arc<str>]>,
}

impl Default for Texts {
    fn default() -> Self {
        let mut texts = Self {
            texts: Vec::new(),
            by_text: HashMap::default(),
            by_address: HashMap::default(),
            names: HashMap::default(),
            lists: HashMap::default(),
        };
        texts.text("");
        texts
    }
}

impl Texts {
    pub(super) fn text(&mut self, text: &str) -> u32 {
        if let Some(id) = self.by_text.get(text) {
            return *id;
        }
        let text: Arc<str> = text.into();
        self.new_text(text)
    }

    fn new_text(&mut self, text: Arc<str>) -> u32 {
        // Four billion texts do not fit in memory.
        let id = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(Arc::clone(&text));
        self.by_text.insert(text, id);
        id
    }

    pub(super) fn name(&mut self, name: Option<&Arc<str>>) -> u32 {
        let Some(name) = name else { return 0 };
        let place = (name.as_ptr().addr(), name.len());
        if let Some((id, _)) = self.names.get(&place) {
            return *id;
        }
        let id = self.text(name);
        if self.names.len() >= HELD_MAX {
            self.names.clear();
        }
        self.names.insert(place, (id, Arc::clone(name)));
        id
    }

    /// Names with commas between.
    pub(super) fn list(&mut self, list: &Arc<[Arc<str>]>) -> u32 {
        if list.is_empty() {
            return 0;
        }
        let place = (list.as_ptr().addr(), list.len());
        if let Some((id, _)) = self.lists.get(&place) {
            return *id;
        }
        let id = self.text(&list.join(","));
        if self.lists.len() >= HELD_MAX {
            self.lists.clear();
        }
        self.lists.insert(place, (id, Arc::clone(list)));
        id
    }

    pub(super) fn address(&mut self, address: IpAddr) -> u32 {
        if let Some(id) = self.by_address.get(&address) {
            return *id;
        }
        let id = self.text(&address.to_string());
        self.by_address.insert(address, id);
        id
    }

    pub(super) fn get(&self, id: u32) -> &str {
        usize::try_from(id)
            .ok()
            .and_then(|index| self.texts.get(index))
            .map_or("", |text| text)
    }

    /// The place of each text among all, in the order of the alphabet.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..).take(self.texts.len()).collect();
        ids.sort_unstable_by_key(|id| self.get(*id));
        let mut order = vec![0; ids.len()];
        for (place, id) in (0..).zip(ids) {
            if let Some(of_id) = usize::try_from(id).ok().and_then(|i| order.get_mut(i)) {
                *of_id = place;
            }
        }
        order
    }

    /// As values of dictionary columns.
    pub(super) fn values(&self) -> StringArray {
        StringArray::from_iter_values(&self.texts)
    }
}

/// Ids of the words of one enumeration, in the order of its values.
macro_rules! word_ids {
    ($texts:expr, $words:ty) => {
        <$words>::ALL
            .iter()
            .map(|word| $texts.text(word.word()))
            .collect::<Vec<u32>>()
    };
}
pub(super) use word_ids;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_wherever_it_lies() {
        let mut texts = Texts::default();
        let (one, other): (Arc<str>, Arc<str>) = ("web-1".into(), "web-1".into());
        let id = texts.name(Some(&one));
        assert_eq!(texts.name(Some(&other)), id);
        assert_eq!(texts.name(Some(&one)), id);
        assert_eq!(texts.text("web-1"), id);
        assert_eq!((texts.name(None), texts.get(id)), (0, "web-1"));
    }

    #[test]
    fn a_name_that_lies_where_another_lay_is_not_taken_for_it() {
        let mut texts = Texts::default();
        for number in 0..HELD_MAX * 2 {
            let name: Arc<str> = number.to_string().into();
            let id = texts.name(Some(&name));
            assert_eq!(texts.get(id), &*name);
        }
    }
}
