// Package customtest has a CustomResourceDefinition for tests that says a little of everything.
package customtest

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// Boats defines the namespaced kind Boat in the versions v1, which is stored, and v1beta1.
const Boats = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.sea.example.com}
spec:
  group: sea.example.com
  scope: Namespaced
  names: {plural: boats, kind: Boat, shortNames: [bo], categories: [all]}
  versions:
  - name: v1beta1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  - name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .spec.hull}]
    additionalPrinterColumns:
    - {name: Oars, type: integer, jsonPath: .spec.oars}
    - {name: Hull, type: string, jsonPath: .spec.hull}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.oars, statusReplicasPath: .status.oars, labelSelectorPath: .status.selector}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [hull]
            properties:
              hull: {type: string, enum: [wood, steel], description: What it is made of.}
              oars: {type: integer, minimum: 0, maximum: 50, default: 2}
              name: {type: string, maxLength: 10}
              crew:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {type: string}
                    rank: {type: string, default: sailor}
              cargo: {type: object, x-kubernetes-preserve-unknown-fields: true}
              flags: {type: object, additionalProperties: {type: boolean}}
          status:
            type: object
            properties:
              oars: {type: integer}
              selector: {type: string}
`

// Definition reads a definition from YAML and panics when it is none.
func Definition(text string) *apiextensionsv1.CustomResourceDefinition {
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		panic(err)
	}
	return d
}

// Establish gives a definition the status that the Master would.
func Establish(d *apiextensionsv1.CustomResourceDefinition) {
	d.Status.AcceptedNames = d.Spec.Names
	d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{
		{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue},
		{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue},
	}
}
