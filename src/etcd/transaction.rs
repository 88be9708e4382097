//! Changes that are made only if other keys are as expected.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::exchange::Method;
use super::lease::Lease;
use super::messages::{
    CompareMessage, KeyValue, PutRequest, RangeRequest, RequestOp, TARGET_CREATE, TARGET_MOD,
    TxnRequest, TxnResponse,
};
use super::operations::header;

const TXN: Method = Method {
    path: "/etcdserverpb.KV/Txn",
    // The comparisons of a second attempt would see the changes of the first.
    is_idempotent: false,
};

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// There is no such key.
    Absent(Vec<u8>),
    /// The key was changed last at this revision.
    ModRevision(Vec<u8>, i64),
}

/// An operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Reads a key.
    Get(Vec<u8>),
    /// Sets a key to a value, which ends with the lease if there is one.
    Put(Vec<u8>, Vec<u8>, Option<Lease>),
}

/// Conditions, and what is done if all of them hold or if one does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The conditions; without any they hold.
    pub compare: Vec<Compare>,
    /// What is done if all hold. A key can be changed once in a transaction.
    pub then: Vec<Operation>,
    /// What is done if one does not hold.
    pub otherwise: Vec<Operation>,
}

/// What a transaction has done.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionOutcome {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// The revision after the transaction.
    pub revision: i64,
    /// The keys that were read and exist, in the order of the operations.
    pub found: Vec<KeyValue>,
}

/// What a compare-and-swap has done.
#[derive(Debug, Clone, PartialEq)]
pub enum Swap {
    /// The key was set at this revision.
    Done(i64),
    /// Nothing was changed: the key is like this now, or absent.
    Conflict(Option<KeyValue>),
}

impl EtcdClient {
    /// Executes a transaction.
    ///
    /// # Errors
    /// [`EtcdError::OutcomeUnknown`] if it may have been executed; else nothing was changed.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<TransactionOutcome, EtcdError> {
        let response: TxnResponse = self.call(TXN, TxnRequest::from(transaction)).await?;
        let ranges = response.responses.into_iter();
        let ranges = ranges.filter_map(|response| response.range);
        Ok(TransactionOutcome {
            succeeded: response.succeeded,
            revision: header(response.header)?.revision,
            found: ranges.flat_map(|range| range.kvs).collect(),
        })
    }

    /// Creates a key if it is absent.
    ///
    /// # Errors
    /// Those of [`transact`](Self::transact).
    pub async fn create(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: Option<Lease>,
    ) -> Result<Swap, EtcdError> {
        let key = key.into();
        let condition = Compare::Absent(key.clone());
        self.swap(condition, key, value.into(), lease).await
    }

    /// Sets a key if its last change was at `mod_revision`.
    ///
    /// # Errors
    /// Those of [`transact`](Self::transact).
    pub async fn replace(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        mod_revision: i64,
        lease: Option<Lease>,
    ) -> Result<Swap, EtcdError> {
        let key = key.into();
        let condition = Compare::ModRevision(key.clone(), mod_revision);
        self.swap(condition, key, value.into(), lease).await
    }

    async fn swap(
        &self,
        condition: Compare,
        key: Vec<u8>,
        value: Vec<u8>,
        lease: Option<Lease>,
    ) -> Result<Swap, EtcdError> {
        let outcome = self.transact(Transaction {
            compare: vec![condition],
            then: vec![Operation::Put(key.clone(), value, lease)],
            otherwise: vec![Operation::Get(key)],
        });
        let outcome = outcome.await?;
        Ok(match outcome.succeeded {
            true => Swap::Done(outcome.revision),
            false => Swap::Conflict(outcome.found.into_iter().next()),
        })
    }
}

impl From<Transaction> for TxnRequest {
    fn from(transaction: Transaction) -> Self {
        let operations = |list: Vec<Operation>| list.into_iter().map(RequestOp::from).collect();
        let compare = transaction.compare.into_iter();
        TxnRequest {
            compare: compare.map(CompareMessage::from).collect(),
            success: operations(transaction.then),
            failure: operations(transaction.otherwise),
        }
    }
}

impl From<Compare> for CompareMessage {
    fn from(compare: Compare) -> Self {
        match compare {
            Compare::Absent(key) => CompareMessage {
                target: TARGET_CREATE,
                key,
                create_revision: Some(0),
                mod_revision: None,
            },
            Compare::ModRevision(key, revision) => CompareMessage {
                target: TARGET_MOD,
                key,
                create_revision: None,
                mod_revision: Some(revision),
            },
        }
    }
}

impl From<Operation> for RequestOp {
    fn from(operation: Operation) -> Self {
        let mut op = RequestOp::default();
        match operation {
            Operation::Get(key) => {
                let range = RangeRequest {
                    key,
                    ..RangeRequest::default()
                };
                op.range = Some(range);
            }
            Operation::Put(key, value, lease) => {
                let lease = lease.map_or(0, |lease| lease.id);
                op.put = Some(PutRequest { key, value, lease });
            }
        }
        op
    }
}
