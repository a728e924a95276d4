//! Verifiers made of verifiers.

#[path = "support/mod.rs"]
#[cfg(all(feature = "admission", feature = "allowlist"))]
mod support;

#[cfg(all(feature = "admission", feature = "allowlist"))]
mod stories {
    use std::sync::Arc;
    use std::time::Duration;

    use derp_verify::{
        AllOf, AllowAll, Allowlist, AnyOf, Candidate, ConnMeta, Denied, Denylist, RateLimit,
        Verdict, Verifier, VerifyError, async_trait,
    };

    use crate::support::{ALICE, BOB, ask, key, nth_key, word};

    #[derive(Debug)]
    struct Always(Result<Verdict, VerifyError>);

    #[async_trait]
    impl Verifier for Always {
        async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
            self.0.clone()
        }
    }

    #[derive(Debug)]
    struct Never;

    #[async_trait]
    impl Verifier for Never {
        async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
            std::future::pending().await
        }
    }

    fn allow() -> Arc<dyn Verifier> {
        Arc::new(AllowAll)
    }

    fn deny(reason: &'static str) -> Arc<dyn Verifier> {
        Arc::new(Always(Ok(Verdict::deny(reason))))
    }

    fn fail() -> Arc<dyn Verifier> {
        Arc::new(Always(Err(VerifyError::Overloaded)))
    }

    #[tokio::test]
    async fn any_and_all_mean_what_they_say() {
        let table = [
            (vec![], "deny", "deny"),
            (vec![allow()], "allow", "allow"),
            (vec![deny("a"), allow()], "allow", "deny"),
            (vec![allow(), deny("a")], "allow", "deny"),
            (vec![deny("a"), deny("b")], "deny", "deny"),
            (vec![fail(), allow()], "allow", "overloaded"),
            (vec![allow(), fail()], "allow", "overloaded"),
            (vec![deny("a"), fail()], "overloaded", "deny"),
            (vec![fail(), deny("a")], "overloaded", "deny"),
            (vec![allow(), fail(), deny("a")], "allow", "deny"),
        ];
        for (verifiers, any, all) in table {
            let found = (
                word(&ask(&AnyOf::new(verifiers.clone()), key(ALICE)).await),
                word(&ask(&AllOf::new(verifiers.clone()), key(ALICE)).await),
            );
            assert_eq!(found, (any, all), "{verifiers:?}");
        }
        let reasons = AnyOf::new(vec![deny("not a"), deny(""), deny("not b")]);
        let verdict = ask(&reasons, key(ALICE)).await.unwrap();
        assert_eq!(verdict, Verdict::deny("not a; not b"));
    }

    #[tokio::test]
    async fn only_the_failure_of_who_admitted_a_client_is_a_reason_for_it_to_stay() {
        let named = |name: &str, verifier| (Arc::from(name), verifier);
        let by = |any: AnyOf, admitted_by| async move {
            let conn = ConnMeta::default();
            let mut client = Candidate::new(key(ALICE), &conn);
            client.admitted_by = admitted_by;
            let answer = any.verify(&client).await;
            let by = answer.as_ref().ok().and_then(|it| it.admitted_by.clone());
            (word(&answer), by)
        };
        let away = || AnyOf::named(vec![named("list", deny("no")), named("url", fail())]);
        assert_eq!(by(away(), None).await, ("overloaded", None));
        assert_eq!(by(away(), Some("url")).await, ("overloaded", None));
        assert_eq!(by(away(), Some("list")).await, ("deny", None));
        let here = || AnyOf::named(vec![named("list", fail()), named("url", allow())]);
        for before in [None, Some("list"), Some("url")] {
            assert_eq!(by(here(), before).await, ("allow", Some("url".into())));
        }
    }

    #[tokio::test]
    async fn one_that_hangs_delays_nobody_whom_another_knows() {
        let any = AnyOf::new(vec![Arc::new(Never), deny("a"), allow()]);
        assert_eq!(word(&ask(&any, key(ALICE)).await), "allow");
    }

    #[tokio::test]
    async fn what_all_agree_on_has_the_lowest_limits() {
        let rate = |bytes_per_second| {
            Some(RateLimit {
                bytes_per_second,
                burst_bytes: 1,
            })
        };
        let mut first = Verdict::allow();
        (first.rate, first.group) = (rate(9), Some("one".into()));
        let mut second = Verdict::allow();
        (second.rate, second.group) = (rate(5), Some("two".into()));
        second.time_to_live = Some(Duration::from_secs(7));
        let mut expected = second.clone();
        expected.group = Some("one".into());
        let all = AllOf::new(vec![
            Arc::new(Always(Ok(first))),
            Arc::new(Always(Ok(second))),
        ]);
        assert_eq!(ask(&all, key(ALICE)).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn deny_wins() {
        let denylist = Denylist::parse(&format!("{ALICE} # lost laptop\n")).unwrap();
        let allowlist = Allowlist::parse(&format!("{ALICE}\n{BOB}\n")).unwrap();
        let denied = Denied::first(denylist, allowlist);
        for (key, expected) in [
            (key(ALICE), "deny"),
            (key(BOB), "allow"),
            (nth_key(1), "deny"),
        ] {
            assert_eq!(word(&ask(&denied, key).await), expected);
        }
    }
}
