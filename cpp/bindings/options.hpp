// Options that are enums: how Python spells each, in one table, for arguments, properties, stubs and refusals.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "cutplan/cutplan.hpp"
#include "keywords.hpp"

namespace cutplan::bindings {

namespace nb = nanobind;

template <typename Option, std::size_t kSize>
struct Spelling {
  const char* type;      // name of the enum in Python; null: its names alone
  const char* argument;  // annotation of an argument
  Option members[kSize];
  std::optional<Option> absent = {};   // what None stands for
  const char* also = nullptr;          // what an argument may be besides, in words
  std::optional<Option> of_true = {};  // what True stands for, and False for `absent`

  constexpr bool is_member(Option option) const {
    for (Option member : members) {
      if (member == option) return true;
    }
    return false;
  }
};

template <typename Option>
inline constexpr int spelling = 0;
template <>
inline constexpr Spelling<GemmLayout, 8> spelling<GemmLayout> = {
    "GemmLayout",
    "GemmLayoutLike",
    {GemmLayout::rcr, GemmLayout::rrr, GemmLayout::crr, GemmLayout::ccr, GemmLayout::rcc, GemmLayout::rrc, GemmLayout::crc,
     GemmLayout::ccc}};
template <>
inline constexpr Spelling<Activation, 5> spelling<Activation> = {
    "Activation",
    "ActivationLike",
    {Activation::none, Activation::relu, Activation::gelu_erf, Activation::gelu_tanh, Activation::silu},
    Activation::none};
template <>
inline constexpr Spelling<BiasOver, 2> spelling<BiasOver> = {nullptr,        "BiasLike",    {BiasOver::n, BiasOver::m},
                                                             BiasOver::none, "False, True", BiasOver::n};
template <>
inline constexpr Spelling<Auxiliary, 2> spelling<Auxiliary> = {
    nullptr, "AuxLike", {Auxiliary::store, Auxiliary::gradient}, Auxiliary::none, "None"};
template <>
inline constexpr Spelling<Gate, 2> spelling<Gate> = {
    nullptr, "GateLike", {Gate::separate, Gate::interleaved}, Gate::none, "None"};
template <>
inline constexpr Spelling<Granularity, 5> spelling<Granularity> = {
    nullptr,
    "GranularityLike",
    {Granularity::tensor, Granularity::row, Granularity::column, Granularity::group, Granularity::block}};
template <>
inline constexpr Spelling<WeightFormat, 6> spelling<WeightFormat> = {
    nullptr,
    "WeightFormatLike",
    {WeightFormat::int4, WeightFormat::uint4, WeightFormat::int8, WeightFormat::e4m3, WeightFormat::nf4,
     WeightFormat::e2m1}};
template <>
inline constexpr Spelling<GroupedOver, 2> spelling<GroupedOver> = {
    nullptr, "GroupedOverLike", {GroupedOver::m, GroupedOver::k}};
template <>
inline constexpr Spelling<Arch, 4> spelling<Arch> = {"Arch", "ArchLike", {Arch::host, Arch::sm80, Arch::sm89, Arch::sm90}};
template <>
inline constexpr Spelling<Backend, 2> spelling<Backend> = {"Backend", "Backend", {Backend::host, Backend::cute}};
template <>
inline constexpr Spelling<Math, 4> spelling<Math> = {
    "Math", "MathLike", {Math::fast, Math::tf32, Math::tf32x3, Math::strict}};
template <>
inline constexpr Spelling<Tune, 3> spelling<Tune> = {"Tune", "TuneLike", {Tune::off, Tune::cached, Tune::measure}};
template <>
inline constexpr Spelling<TuningSource, 3> spelling<TuningSource> = {
    nullptr, "", {TuningSource::shipped, TuningSource::imported, TuningSource::measured}};
template <>
inline constexpr Spelling<FmhaLayout, 2> spelling<FmhaLayout> = {
    "FmhaLayout", "FmhaLayoutLike", {FmhaLayout::bhsd, FmhaLayout::bshd}};
template <>
inline constexpr Spelling<Causal, 2> spelling<Causal> = {
    "Causal", "CausalLike", {Causal::top_left, Causal::bottom_right}, Causal::none, "None"};
template <>
inline constexpr Spelling<Align, 2> spelling<Align> = {
    "Align", "AlignLike", {Align::bottom_right, Align::top_left}, {}, "None"};

/// "'rcr', 'rrr'"
template <typename Option>
std::string names_of() {
  std::string all;
  for (Option member : spelling<Option>.members) all += std::string(all.empty() ? "'" : ", '") + name(member) + "'";
  return all;
}

/// A member, or its name; none where the object is neither.
template <typename Option>
std::optional<Option> find_option(nb::handle object) {
  constexpr const auto& spelt = spelling<Option>;
  if (nb::isinstance<nb::str>(object)) {
    const std::string_view text = utf8_of(object);
    for (Option option : spelt.members) {
      if (text == name(option)) return option;
    }
  } else if (spelt.type != nullptr && nb::isinstance<Option>(object)) {
    return nb::cast<Option>(object);
  }
  return std::nullopt;
}

/// What an argument stands for. Raises ValueError listing the names.
template <typename Option>
Option to_option(nb::handle object, const char* argument) {
  constexpr const auto& spelt = spelling<Option>;
  if (spelt.absent && object.is_none()) return *spelt.absent;
  if (spelt.of_true && object.ptr() == Py_True) return *spelt.of_true;
  if (spelt.of_true && object.ptr() == Py_False) return *spelt.absent;
  if (const std::optional<Option> option = find_option<Option>(object)) return *option;
  throw nb::value_error((std::string(argument) + ": must be one of " +
                         (spelt.also != nullptr ? std::string(spelt.also) + ", " : std::string()) + names_of<Option>() +
                         "; got " + repr_of(object))
                            .c_str());
}

}  // namespace cutplan::bindings
