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

/// An address and what it was called when it came last: most come again under the same name.
#[derive(Debug)]
struct Named {
    id: u32,
    name: Option<Arc<str>>,
    name_id: u32,
    segments: Arc<[Arc<str>]>,
    segments_id: u32,
}

/// One end of a flow, as ids of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndIds {
    pub address: u32,
    pub name: u32,
    pub segments: u32,
}

/// Dictionary of texts. The first is the empty one, which stands for what is missing.
#[derive(Debug)]
pub(super) struct Texts {
    texts: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, u32, Hash>,
    by_address: HashMap<IpAddr, Named, Hash>,
    names: Held<str>,
    lists: Held<[Arc<str>]>,
}

impl Named {
    const fn ids(&self) -> EndIds {
        EndIds {
            address: self.id,
            name: self.name_id,
            segments: self.segments_id,
        }
    }
}

/// Whether two names lie at the same place. Both are held, so that they are the same text.
fn is_same(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
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
        match self.by_address.get(&address) {
            Some(named) => named.id,
            None => self.text(&address.to_string()),
        }
    }

    /// An end of a flow with its name and its segments.
    pub(super) fn end(
        &mut self,
        address: IpAddr,
        name: Option<&Arc<str>>,
        segments: &Arc<[Arc<str>]>,
    ) -> EndIds {
        if let Some(named) = self.by_address.get(&address)
            && is_same(named.name.as_ref(), name)
            && Arc::ptr_eq(&named.segments, segments)
        {
            return named.ids();
        }
        let named = Named {
            id: self.address(address),
            name: name.cloned(),
            name_id: self.name(name),
            segments: Arc::clone(segments),
            segments_id: self.list(segments),
        };
        let ids = named.ids();
        self.by_address.insert(address, named);
        ids
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
    pub(super) fn values(&self) -> Arc<StringArray> {
        Arc::new(StringArray::from_iter_values(&self.texts))
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
    fn an_end_that_is_called_otherwise_has_other_numbers() {
        let mut texts = Texts::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        let (one, other): (Arc<str>, Arc<str>) = ("web-1".into(), "web-2".into());
        let (web, db): (Arc<[Arc<str>]>, _) = ([Arc::from("web")].into(), [Arc::from("db")].into());
        for (name, segments) in [
            (Some(&one), &web),
            (Some(&one), &web),
            (Some(&other), &web),
            (Some(&other), &db),
            (None, &db),
            (Some(&one), &web),
        ] {
            let ids = texts.end(address, name, segments);
            let told = [ids.address, ids.name, ids.segments].map(|id| texts.get(id).to_owned());
            let name = name.map_or("", |name| name);
            assert_eq!(told, ["10.0.0.1", name, &segments.join(",")]);
        }
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
