# Brings foreign code into the build tree: wheels pinned by version and sha256 in a requirements file, unpacked side by
# side. pip does the download, so that its proxies, mirrors and cache apply; wheels lying next to this file are taken first,
# which is how a source distribution builds without a network.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)

# Further arguments go to pip: for which Python and platform the wheels are, where that is not those at hand. Of wheels of which
# little is needed, cutplan_<name>_files are patterns of the files that are unpacked.
function(cutplan_fetch name)
  set(requirements ${PROJECT_SOURCE_DIR}/third_party/${name}.txt)
  set(destination ${PROJECT_BINARY_DIR}/third_party/${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${requirements})
  file(SHA256 ${requirements} digest)
  set(stamp ${destination}/${digest})
  set(cutplan_${name}_dir ${destination} PARENT_SCOPE)
  if(EXISTS ${stamp})
    return()
  endif()

  set(download ${PROJECT_BINARY_DIR}/third_party/download)
  file(REMOVE_RECURSE ${destination} ${download})
  set(pip_download ${Python_EXECUTABLE} -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes
                   --only-binary :all: --dest ${download} --requirement ${requirements} ${ARGN})
  execute_process(COMMAND ${pip_download} --no-index --find-links ${PROJECT_SOURCE_DIR}/third_party
                  RESULT_VARIABLE not_carried OUTPUT_QUIET ERROR_QUIET)
  if(not_carried)
    message(STATUS "cutplan: downloading ${name} as pinned in third_party/${name}.txt")
    execute_process(COMMAND ${pip_download} RESULT_VARIABLE failed ERROR_VARIABLE reason)
    if(failed)
      message(FATAL_ERROR "cutplan: could not download ${name} with ${Python_EXECUTABLE} -m pip. Without a network, put the "
                          "wheels that third_party/${name}.txt pins into third_party/. pip said:\n${reason}")
    endif()
  endif()

  file(GLOB wheels ${download}/*.whl)
  set(only "")
  if(DEFINED cutplan_${name}_files)
    set(only PATTERNS ${cutplan_${name}_files})
  endif()
  foreach(wheel IN LISTS wheels)
    file(ARCHIVE_EXTRACT INPUT ${wheel} DESTINATION ${destination} ${only})
  endforeach()
  file(REMOVE_RECURSE ${download})
  file(TOUCH ${stamp})
endfunction()
