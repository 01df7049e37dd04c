//! One message under construction: header, sets, records (RFC 7011 section 3).

/// A finished message: one UDP payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Flows whose last data record is in it.
    pub flows: u64,
    /// Packets that those flows count, both ways.
    pub packets: u64,
    /// Bytes that those flows count, both ways.
    pub octets: u64,
}

/// RFC 7011 section 3.1: version, length, export time, sequence number, observation domain.
pub(crate) const HEADER_BYTES: usize = 16;
/// RFC 7011 section 3.3.2: set id, length.
pub(crate) const SET_HEADER_BYTES: usize = 4;
/// RFC 7011 section 3.1.
const VERSION: u16 = 10;

/// A message that is being filled, at most `bytes_max` long.
#[derive(Debug)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Where the open set begins, and its id.
    set: Option<(usize, u16)>,
    data_records: u32,
    flows: u64,
    packets: u64,
    octets: u64,
}

impl Builder {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let mut builder = Self {
            bytes: Vec::with_capacity(bytes_max),
            bytes_max,
            set: None,
            data_records: 0,
            flows: 0,
            packets: 0,
            octets: 0,
        };
        builder.bytes.resize(HEADER_BYTES, 0);
        builder
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Appends a record to the open set of this id, or to a new one. Gives false, and changes
    /// nothing, where the message has no room for it.
    pub(crate) fn append(&mut self, set_id: u16, record: &[u8], is_data: bool) -> bool {
        let same_set = self.set.is_some_and(|(_, id)| id == set_id);
        // The set that is closed and the one that is continued may both need up to 3 bytes.
        let overhead = if same_set { 3 } else { SET_HEADER_BYTES + 6 };
        if self.bytes.len() + overhead + record.len() > self.bytes_max {
            return false;
        }
        if !same_set {
            self.close_set();
            self.set = Some((self.bytes.len(), set_id));
            self.bytes.extend_from_slice(&set_id.to_be_bytes());
            self.bytes.extend_from_slice(&[0, 0]);
        }
        self.bytes.extend_from_slice(record);
        self.data_records += u32::from(is_data);
        true
    }

    /// Counts a flow whose data records are now all in this message or an earlier one.
    pub(crate) const fn count_flow(&mut self, packets: u64, octets: u64) {
        self.flows += 1;
        self.packets = self.packets.saturating_add(packets);
        self.octets = self.octets.saturating_add(octets);
    }

    /// Pads the open set to four bytes (RFC 7011 section 3.3.1; every record of ours is longer than
    /// the padding, so it cannot be taken for one) and writes its length.
    fn close_set(&mut self) {
        let Some((start, _)) = self.set.take() else {
            return;
        };
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(start + 2..start + 4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// The finished message and how many data records it has; the builder is empty again.
    pub(crate) fn finish(&mut self, export_s: u32, sequence: u32, domain: u32) -> (Message, u32) {
        self.close_set();
        let mut next = Self::new(self.bytes_max);
        std::mem::swap(self, &mut next);
        let mut bytes = next.bytes;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&export_s.to_be_bytes());
        header.extend_from_slice(&sequence.to_be_bytes());
        header.extend_from_slice(&domain.to_be_bytes());
        bytes.splice(..HEADER_BYTES, header);
        let message = Message {
            bytes,
            flows: next.flows,
            packets: next.packets,
            octets: next.octets,
        };
        (message, next.data_records)
    }
}
