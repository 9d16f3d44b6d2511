package api_test

// knownDifferences says why an answer is not the recorded one.
func knownDifferences() map[string]string {
	const (
		notOurFault = "a mistake of the client is a 400 here, as in newer servers, and not a 500"
		newField    = "newer servers select by this field"
		newer       = "changed in Kubernetes since"
		library     = "what the library makes of this directive changed since"
		plugin      = "the finalizer comes from an admission plugin that is not here"
	)
	return map[string]string{
		"fieldselectors/Pod spec.hostNetwork=false":  newField,
		"fieldselectors/Service spec.clusterIP=None": newField,
		"fieldselectors/Service spec.type=ClusterIP": newField,
		"apply/wrong-kind":                           notOurFault,
		"apply/unknown-field":                        notOurFault,
		"apply/bad-type":                             notOurFault,
		"list-basic/rv-bad":                          notOurFault,
		"list-basic/get-rv-bad":                      notOurFault,
		"watch-cm/w-rv-bad":                          notOurFault,
		"update/rv-bad":                              notOurFault,
		"pod-subresources/bind-empty-target":         notOurFault,
		"pod-subresources/bind-kind":                 notOurFault,
		"list-basic/deletecollection-services":       newer,
		"update/svc-put-norv":                        newer,
		"patch/strat-nokey":                          notOurFault,
		"patch/strat-patch-unknown":                  notOurFault,
		"patch/merge-garbage":                        notOurFault,
		"patch/merge-empty":                          notOurFault,
		"patch/merge-array":                          newer,
		"patch/strat-replace-map":                    library,
		"patch/strat-delete-primitive":               library,
		"apply/dep-dup-key":                          notOurFault,
		"pod-subresources/ephemeral":                 newer,
		"status-others/create-PersistentVolumeClaim": plugin,
	}
}
