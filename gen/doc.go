// Package gen has the models of the API, which openapi.yaml describes.
//
// Everything named *.gen.go in here and below, and api/openapi.yaml, is generated and never edited: change
// openapi.yaml, then run `make generate`. The models carry no framework, so that every other package can use them:
//
//	gen         models, and time.go, written by hand: the type by which openapi.yaml has the models encode times
//	gen/api     Echo routes, the strict server interface, the document
//	gen/client  the Go client
package gen

//go:generate go tool oapi-codegen -config models.yaml ../openapi.yaml
//go:generate go tool oapi-codegen -config api/config.yaml ../openapi.yaml
//go:generate cp ../openapi.yaml api/openapi.yaml
//go:generate go tool oapi-codegen -config client/config.yaml ../openapi.yaml
