//! The account with an authority: the one whose key is kept, or a new one.

use instant_acme::{Account, Error, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Acme;
use crate::authority::{Failure, FailureKind};

impl Acme {
    /// The account, found or made if this is the first time.
    pub(super) async fn account<'a>(
        &self,
        account: &'a mut Option<Account>,
    ) -> Result<&'a Account, Failure> {
        let found = match account.take() {
            Some(account) => account,
            None => self.find_or_make().await?,
        };
        Ok(account.insert(found))
    }

    async fn find_or_make(&self) -> Result<Account, Failure> {
        let kept = self.store.account_key().map_err(local)?;
        if let Some(key) = kept
            && let Some(account) = self.find(key).await?
        {
            return Ok(account);
        }
        self.make().await
    }

    /// The account of this key, or `None` where the authority knows none.
    async fn find(&self, pkcs8: PrivatePkcs8KeyDer<'static>) -> Result<Option<Account>, Failure> {
        let failed = |error: Error| self.failure(&error);
        let key = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(failed)?;
        let key = (key, PrivateKeyDer::Pkcs8(pkcs8));
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        let found = builder.from_key(key, self.options.directory.clone()).await;
        match found {
            Ok((account, _)) => Ok(Some(account)),
            Err(Error::Api(problem))
                if problem
                    .r#type
                    .as_deref()
                    .is_some_and(|kind| kind.ends_with(":accountDoesNotExist")) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn make(&self) -> Result<Account, Failure> {
        let contact = self
            .options
            .email
            .as_ref()
            .map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let new = NewAccount {
            contact: &contact,
            // As the reference does: whoever chooses this mode agrees.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = self
            .options
            .eab
            .as_ref()
            .map(|eab| ExternalAccountKey::new(eab.kid.clone(), &eab.key));
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        let directory = self.options.directory.clone();
        let made = builder.create(&new, directory, binding.as_ref()).await;
        let (account, credentials) = made.map_err(|error| self.failure(&error))?;
        self.store
            .save_account_key(credentials.private_key())
            .map_err(local)?;
        tracing::info!(
            authority = self.host,
            account = account.id(),
            "a new ACME account"
        );
        Ok(account)
    }
}

/// A file of our own.
fn local(error: crate::store::StoreError) -> Failure {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    let message = format!("{error}{}", source.unwrap_or_default());
    Failure::new(FailureKind::Refused, message)
}
